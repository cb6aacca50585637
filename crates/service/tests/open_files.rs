//! A process raises its limit of open files. Alone in a program, because the limit is the whole process's.
#![allow(clippy::expect_used, reason = "this is a test")]

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn the_limit_of_open_files_is_raised_to_what_the_settings_need_and_never_lowered() {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum: before.maximum }).expect("lowered");
    service::make_room(600).expect("room");
    assert_eq!(getrlimit(Resource::Nofile).current, Some(600));
    service::make_room(100).expect("room");
    assert_eq!(getrlimit(Resource::Nofile).current, Some(600));
    let Some(most) = before.maximum else { return };
    let error = service::make_room(most + 1).expect_err("more than the system allows").to_string();
    assert!(error.contains(&format!("{}", most + 1)) && error.contains("ulimit"), "{error}");
}
