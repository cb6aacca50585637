//! What the command prints on terminals, through pipes, and to readers that have seen enough. Nothing here needs a service.
#![allow(clippy::expect_used, reason = "these are tests")]

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::Read,
    net::TcpListener,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

const PLAYBOOK: &str = "deploy/playbooks/lead-qualification.toml";

/// A table that is wider than 60 columns.
const COST: [&str; 5] = ["playbook", "cost", PLAYBOOK, "--model", "gpt-4o"];

fn leadline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leadline"));
    command.args(arguments).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    command.env("LEADLINE__LEDGER__URL", "postgres://127.0.0.1:1/none").env("TERM", "xterm").env_remove("NO_COLOR");
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs it on a terminal of so many columns, and gives what the terminal gets.
fn on_a_terminal(columns: u16, mut command: Command) -> String {
    let (mut terminal, end) = terminal(columns);
    let mut child = command.stdout(end).stderr(Stdio::null()).spawn().expect("runs");
    // It holds the terminal's other end open.
    drop(command);
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    // When the other end is closed, reading fails.
    while let Ok(length @ 1..) = terminal.read(&mut piece) {
        seen.extend_from_slice(&piece[..length]);
    }
    assert!(child.wait().expect("ended").success());
    String::from_utf8(seen).expect("UTF-8").replace("\r\n", "\n")
}

/// A terminal of so many columns, and its other end, which a process has as its output.
fn terminal(columns: u16) -> (File, File) {
    let terminal: File = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal").into();
    grantpt(&terminal).expect("granted");
    unlockpt(&terminal).expect("unlocked");
    let name = ptsname(&terminal, Vec::new()).expect("a name");
    let end =
        OpenOptions::new().read(true).write(true).open(OsStr::from_bytes(name.as_bytes())).expect("its other end");
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&end, size).expect("a size");
    (terminal, end)
}

#[test]
fn a_table_fits_the_terminal_has_colours_there_and_is_whole_and_plain_in_a_pipe() {
    let piped = leadline(&COST).output().expect("runs");
    let whole = String::from_utf8(piped.stdout).expect("UTF-8");
    let titles = whole.lines().next().expect("a line of titles");
    assert!(titles.starts_with("PLAYBOOK") && titles.ends_with("1,000 ANSWERS"), "{whole}");
    assert!(titles.len() > 60 && !whole.contains('\u{1b}'), "{whole}");
    assert!(
        whole.lines().nth(1).is_some_and(|row| row.starts_with("lead-qualification  gpt-4o")),
        "no rule between:\n{whole}"
    );

    let wide = on_a_terminal(200, leadline(&COST));
    assert!(wide.starts_with("\u{1b}[1mPLAYBOOK") && wide.contains("1,000 ANSWERS"), "{wide:?}");
    let mut colourless = leadline(&COST);
    colourless.env("NO_COLOR", "1");
    let narrow = on_a_terminal(60, colourless);
    assert!(!narrow.contains('\u{1b}'), "{narrow:?}");
    for line in narrow.lines().take(2) {
        assert!(line.chars().count() <= 60, "{line}");
    }
    assert!(narrow.contains('…'), "{narrow}");
}

/// The model's host takes connections and says nothing.
#[test]
fn what_takes_long_says_so_on_a_terminal_and_nowhere_else() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let cases = "deploy/playbooks/cases/lead-qualification";
    let mut command = leadline(&["playbook", "eval", PLAYBOOK, cases]);
    command.env("LEADLINE__OPENAI__BASE_URL", format!("http://{address}")).env("LEADLINE__OPENAI__API_KEY", "sk-none");
    let (mut terminal, end) = terminal(100);
    let mut child = command.stdout(Stdio::null()).stderr(end).spawn().expect("runs");
    drop(command);
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains(" answered") {
        let length = terminal.read(&mut piece).unwrap_or_default();
        assert!(length > 0, "it ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..length]);
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(String::from_utf8_lossy(&seen).contains("0 of "), "{}", String::from_utf8_lossy(&seen));
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let mut child =
        leadline(&["playbook", "check", PLAYBOOK]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success() && output.stderr.is_empty(), "{:?}: {}", output.status, said(&output));
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure() {
    let full = File::options().write(true).open("/dev/full").expect("there");
    let output = leadline(&COST).stdout(full).stderr(Stdio::piped()).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("the output could not be written: No space left"), "{}", said(&output));
}

#[test]
fn exit_codes_are_those_that_the_help_names() {
    let code = |arguments: &[&str]| leadline(arguments).output().expect("runs").status.code();
    assert_eq!(code(&["playbook", "check", PLAYBOOK]), Some(0));
    assert_eq!(code(&["playbook", "check", "no-such-file.toml"]), Some(1));
    assert_eq!(code(&["no-such-command"]), Some(2));
    assert_eq!(code(&["events", "--state", "eaten"]), Some(2));
    assert_eq!(code(&["playbook", "eval", PLAYBOOK, "no-such-folder"]), Some(3));
    let help = leadline(&["--help"]).output().expect("runs");
    assert!(help.status.success() && said(&help).contains("Exit codes:"), "{}", said(&help));
}

#[test]
fn a_list_as_json_has_numbers_by_name() {
    let output = leadline(&[&COST[..], &["--json"]].concat()).output().expect("runs");
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    assert_eq!(rows[0]["model"], "gpt-4o");
    assert!(rows[0]["prompt_tokens"].as_i64() > Some(0), "{rows}");
}

#[test]
fn shells_get_completions_for_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = leadline(&["completions", shell]).output().expect("runs");
        let script = String::from_utf8(output.stdout).expect("UTF-8");
        for part in ["leadline", "reconcile", "replay", "per-second"] {
            assert!(output.status.success() && script.contains(part), "{shell}: {part} in\n{script}");
        }
        if shell == "bash" {
            let file = folder("completions").join("leadline.bash");
            std::fs::write(&file, &script).expect("written");
            let checked = Command::new("bash").arg("-n").arg(&file).output().expect("bash runs");
            assert!(checked.status.success(), "{}", said(&checked));
        }
    }
}

#[test]
fn each_command_has_a_man_page() {
    let pages = folder("man").join("man1");
    let output = leadline(&["man", pages.to_str().expect("UTF-8")]).output().expect("runs");
    assert!(output.status.success(), "{}", said(&output));
    for (page, part) in [
        ("leadline.1", "Exit codes"),
        ("leadline-events.1", "follow"),
        ("leadline-parked-replay.1", "per\\-second"),
        ("leadline-playbook-eval.1", "max\\-cost"),
        ("leadline-top.1", "once"),
    ] {
        let text = std::fs::read_to_string(pages.join(page)).expect(page);
        assert!(text.contains(".TH ") && text.contains(part), "{part} in {page}:\n{text}");
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}
