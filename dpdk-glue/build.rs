//! Finds DPDK by pkg-config, compiles the C shim and generates the bindings.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The oldest release whose names are used here.
const OLDEST: &str = "22.11";

fn main() {
    println!("cargo::rerun-if-changed=shim.h");
    println!("cargo::rerun-if-changed=shim.c");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");

    let cflags = cflags();

    let mut shim = cc::Build::new();
    shim.file("shim.c").warnings(true).extra_warnings(false);
    for flag in &cflags {
        // Warnings in DPDK's headers are not ours to mend.
        shim.flag(flag.strip_prefix("-I").map_or_else(|| flag.clone(), |dir| format!("-isystem{dir}")));
    }
    shim.compile("pollux_dpdk_shim");

    // After the shim, so that the linker meets DPDK's libraries where the shim's symbols are still wanted.
    if let Err(error) = pkg_config::Config::new().atleast_version(OLDEST).probe("libdpdk") {
        fail(&error.to_string());
    }
    // A driver, and therefore not among the libraries that pkg-config names, but with functions of its own
    // (rte_eth_from_rings). All other drivers are plugins that EAL loads from DPDK's driver directory.
    println!("cargo::rustc-link-lib=rte_net_ring");

    let bindings = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(&cflags)
        .allowlist_function("px_.*")
        .allowlist_function("rte_(eal_init|eal_cleanup|eal_get_runtime_dir|eal_hotplug_add|eal_hotplug_remove|strerror|version)")
        .allowlist_function("rte_(thread_register|thread_unregister|get_tsc_hz|log_set_global_level)")
        .allowlist_function("rte_mempool_(free|avail_count|in_use_count)")
        .allowlist_function("rte_pktmbuf_(pool_create|free_bulk)")
        .allowlist_function("rte_ring_(create|free)")
        .allowlist_function("rte_hash_(create|free|add_key_data|lookup_bulk_data)")
        .allowlist_function("rte_eth_from_rings")
        .allowlist_function("rte_eth_(allmulticast|promiscuous)_(enable|disable|get)")
        .allowlist_function("rte_eth_dev_(adjust_nb_rx_tx_desc|close|configure|get_port_by_name|info_get|start|stop)")
        .allowlist_function("rte_eth_dev_(get_mtu|set_mtu|default_mac_addr_set|socket_id|count_avail|is_valid_port)")
        .allowlist_function("rte_eth_dev_rss_(reta_query|reta_update|hash_conf_get)")
        .allowlist_function("rte_eth_(find_next|link_get_nowait|macaddr_get|rx_queue_setup|tx_queue_setup|stats_get)")
        .allowlist_type("rte_mbuf|rte_mempool|rte_ring|rte_hash_parameters|rte_eth_(conf|dev_info|link|stats|rxconf|txconf|rss_reta_entry64)")
        .allowlist_var("RTE_(ETHER_MAX_LEN|ETHER_CRC_LEN|ETHER_HDR_LEN|PKTMBUF_HEADROOM|MAX_LCORE|MAX_ETHPORTS)")
        .allowlist_var("RTE_(MEMPOOL_CACHE_MAX_SIZE|LOG_[A-Z]+|ETH_LINK_UP|ETH_NAME_MAX_LEN)")
        .allowlist_var("RTE_VER_(YEAR|MONTH)")
        .allowlist_var("PX_.*")
        // Device and operations tables that the structures above only point to.
        .opaque_type("rte_device|rte_eth_dev_switch_info.*|rte_mempool_ops_table|rte_mempool_objhdr")
        .derive_default(true)
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .prepend_enum_name(false)
        .layout_tests(true)
        .generate_comments(false)
        .rust_target(bindgen::RustTarget::stable(85, 0).unwrap_or_default())
        .rust_edition(bindgen::RustEdition::Edition2024)
        .generate();
    let bindings = match bindings {
        Ok(bindings) => bindings,
        Err(error) => {
            fail(&format!("bindgen: {error} (is libclang installed? apt-get install libclang-dev)"))
        }
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    if let Err(error) = bindings.write_to_file(&out) {
        fail(&format!("{}: {error}", out.display()));
    }
}

/// All of `pkg-config --cflags`: the include directories, and also `-include rte_config.h` and the `-march` that DPDK was
/// built for, which the pkg-config crate keeps to itself.
fn cflags() -> Vec<String> {
    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = match Command::new(&tool).args(["--cflags", "libdpdk"]).output() {
        Ok(output) => output,
        Err(error) => fail(&format!("{tool} cannot be run: {error}")),
    };
    if !output.status.success() {
        fail(String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

/// Ends the build with a message that says what to install.
fn fail(why: &str) -> ! {
    println!(
        "cargo::error=DPDK {OLDEST} or later was not found. On Debian and Ubuntu: apt-get install libdpdk-dev libclang-dev pkg-config"
    );
    for line in why.lines().filter(|line| !line.trim().is_empty()) {
        println!("cargo::error={line}");
    }
    std::process::exit(1);
}
