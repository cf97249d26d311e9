//! nginx as a process in a namespace.

use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::Signal;

use crate::net::{Namespace, signal};

/// A running nginx.
pub struct Nginx(Child);

impl Nginx {
    /// Starts it with these `server` blocks over what lies in `dir`/www. It may not accept yet.
    pub fn start(ns: &Namespace, dir: &Path, servers: &str) -> Self {
        let d = dir.display();
        let conf = format!(
            "daemon off; master_process off; pid {d}/pid; error_log {d}/error.log;
             events {{ worker_connections 256; }}
             http {{
               access_log off; default_type application/octet-stream; server_tokens off;
               client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3;
               uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;
               root {d}/www;
               {servers}
             }}"
        );
        std::fs::write(dir.join("nginx.conf"), conf).expect("nginx.conf");
        let child = ns
            .command("nginx")
            .arg("-p")
            .arg(dir)
            .arg("-e")
            .arg(dir.join("error.log"))
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx starts");
        Self(child)
    }

    /// SIGKILL.
    #[allow(dead_code, reason = "not every lab is that rough")]
    pub fn kill(&mut self) {
        signal(self.0.id(), Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        signal(self.0.id(), Signal::TERM);
        let _ = self.0.wait();
    }
}
