//! Tests that need a kernel of their own: each runs alone in a fresh network and mount namespace.
//!
//! The test binary runs itself again under `unshare(1)` with only that test, so devices and routes made by a
//! test can neither reach the machine nor another test, and are gone when it ends. Root is enough; without it
//! an unprivileged user namespace is tried. Where neither is allowed the test fails and says so: it never
//! passes without having run.

use std::process::Command;

const INSIDE: &str = "SHADOWMESH_TEST_NAMESPACE";

/// Runs `body` in a namespace of its own. Call it as the whole of a `#[test]` function, with a closure
/// written there: the closure's type names the test.
pub(crate) fn isolated<F: FnOnce()>(body: F) {
    let name = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let test = name.split_once("::").map_or(name, |(_crate, path)| path);
    if std::env::var(INSIDE).is_ok_and(|inside| inside == test) {
        return body();
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount"]);
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let ready = unshare.get_args().map(ToOwned::to_owned).collect::<Vec<_>>();
    let probe = Command::new("unshare")
        .args(&ready)
        .arg("true")
        .output()
        .expect("unshare (package util-linux) is needed");
    assert!(
        probe.status.success(),
        "this test needs a network namespace and may not make one ({}); run it as root",
        String::from_utf8_lossy(&probe.stderr).trim()
    );
    let output = unshare
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{test} in its namespace: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs a shell command that must succeed; gives back what it printed.
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Drives an async test on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
