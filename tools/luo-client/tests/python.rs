// SPDX-License-Identifier: MIT OR Apache-2.0
//! The client in Python passes its tests.

use std::process::Command;

#[test]
fn the_client_in_python_passes_its_tests() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/python");
    let output = Command::new("python3")
        .args(["-B", "-W", "ignore", "-m", "unittest"])
        .current_dir(folder)
        .output()
        .expect("python3 is needed (package python3)");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Ran 9 tests"), "{said}");
}
