# What ./ci/demo and ./ci/test need of a machine, and how they get it. Sourced, not run.
# Reference system: Debian 12 with Rust and gcc; everything else is installed here, from Debian's own archive.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"

# To build: DPDK and what its pkg-config file requires, libclang for bindgen.
build_packages=(gcc libc6-dev pkg-config libdpdk-dev libpcap-dev libclang-dev)
# For the labs and the checks of ./ci/test.
test_packages=(iproute2 nftables ethtool tcpdump iputils-ping util-linux procps curl python3 nginx-light prometheus
  libusrsctp-dev bird2 openssl systemd udev man-db chromium chromium-driver)
# For ./ci/package.
package_packages=(dpkg-dev binutils)
# For ./ci/fuzz: libFuzzer is C++.
fuzz_packages=(g++)

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '%s\n' "$@" >&2
  exit 1
}

# Those of the named packages that are not installed, one a line.
missing_packages() {
  local package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || echo "$package"
  done
}

# Installs what is missing of the named packages; says how where it may not.
need_packages() {
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
    die "this script installs Debian packages and finds no apt-get" \
      "On another system install the like of: $*; then: cargo build --release && target/release/pollux demo"
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -eq 0 ] && return
  local install="apt-get install --no-install-recommends ${missing[*]}"
  [ "$(id -u)" -eq 0 ] || die "packages are missing, and only root may install them:" "  sudo $install"
  say "Installing ${#missing[@]} Debian packages: ${missing[*]}"
  (
    export DEBIAN_FRONTEND=noninteractive
    # Debian starts the services that it installs (nginx, prometheus): not those of a test.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      trap 'rm -f "$policy"' EXIT
      printf '#!/bin/sh\nexit 101\n' >"$policy"
      chmod 755 "$policy"
    fi
    apt=(apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=2)
    # An archive that cannot be reached is tried twice; what is in the cache may still be enough.
    "${apt[@]}" update >&2 || { sleep 5; "${apt[@]}" update >&2; } || say "apt-get update failed; trying with what is known"
    "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >&2 </dev/null
  ) || die "the packages could not be installed; by hand: " "  $install"
  local package
  if [ -d /run/systemd/system ]; then
    for package in "${missing[@]}"; do
      case "$package" in
        nginx-light) systemctl disable --quiet nginx || true ;;
        prometheus) systemctl disable --quiet prometheus || true ;;
        bird2) systemctl disable --quiet bird || true ;;
      esac
    done
  fi
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -eq 0 ] || die "still missing after the installation: ${missing[*]}"
}

# cargo, at least as new as Cargo.toml says.
need_rust() {
  local wanted have
  wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
  command -v cargo >/dev/null || [ ! -x "$HOME/.cargo/bin/cargo" ] || PATH="$HOME/.cargo/bin:$PATH"
  command -v cargo >/dev/null ||
    die "Rust $wanted or newer is needed, and there is no cargo. To get it:" \
      "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\""
  have=$(cargo --version | cut -d ' ' -f 2)
  printf '%s\n%s\n' "$wanted" "${have%%-*}" | sort --version-sort --check=quiet ||
    die "Rust $wanted or newer is needed; this is $have. To get it:" "  rustup update stable"
}

# Where cargo puts what it builds.
target_dir() { echo "${CARGO_TARGET_DIR:-$PWD/target}"; }
