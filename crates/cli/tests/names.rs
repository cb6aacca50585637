//! The image holds one program under three names.

use std::{os::unix::fs::symlink, process::Command};

#[test]
fn the_name_by_which_the_program_is_called_says_which_service_it_is() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("names");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    for name in ["leadline", "leadline-inference", "leadline-writer"] {
        let program = folder.join(name);
        symlink(env!("CARGO_BIN_EXE_leadline"), &program).expect("a link");
        let output = Command::new(&program).arg("--version").output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.split_once(' ').map(|(name, _)| name), Some(name), "{said}");
    }
}
