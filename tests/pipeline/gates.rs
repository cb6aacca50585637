//! A version of a playbook meets customers' records only when it has passed its gate.

use domain::EventState;
use fixtures::{
    BUYER, PlaybookFolder, WITHIN, ask, contact, ended_as, fleet, key, note_event, pipeline, property, questions,
    send_accepted,
};

use crate::playbook_command::playbook;

const LEADS: &str = include_str!("../../deploy/playbooks/lead-qualification.toml");

/// What the simulator's model answers as expected.
const STUDENT: &str = "what = \"a student\"\nrecords = [{ path = \"contact\" }]\nentries = [{ kind = \"note\", \
    at = 2026-01-10T10:00:00Z, text = \"She is a student.\" }]\n[expect]\nlead_score = { at_most = 30 }\n";

#[tokio::test]
async fn events_wait_for_a_version_that_has_passed_and_a_new_one_does_not_run_before_it_has() {
    let text = format!("{LEADS}\n[gate]\neval = \"cases\"\nmin_hits = 1\n");
    let playbooks = PlaybookFolder::new("gates", &[&text]);
    std::fs::create_dir_all(playbooks.file("cases")).expect("a folder");
    let wrong = STUDENT.replace("at_most = 30", "at_least = 90");
    playbooks.write("cases/student.toml", &wrong);
    let file = playbooks.file("1.toml");
    let mut fleet = fleet(&pipeline().with("inference.playbooks", playbooks.path())).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = fleet.until_event(&key(&note_event(1, 1)), |state| state == EventState::Waiting, WITHIN).await;
    let story = story.expect("waits");
    assert_eq!(story.reason.map(domain::Reason::as_str), Some("gate_closed"), "{story:?}");
    let (good, said) = playbook(&fleet, &["eval", &file, "--record"]).await;
    assert!(!good && said.contains("does not pass the gate: 0 of 1 answers are hits"), "{said}");
    let status = fleet.leadline(&["status"]).await.expect("runs");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("closed") && status.contains("no version of it has passed"), "{status}");
    assert_eq!(questions(&fleet).await, 1, "that of the case; none about the record");

    // Nobody restarts anything.
    playbooks.write("cases/student.toml", STUDENT);
    let (good, said) = playbook(&fleet, &["eval", &file, "--record"]).await;
    assert!(good && said.contains("passes the gate: 1 of 1 answers are hits"), "{said}");
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert!(property(&fleet, 1, "lead_score").await.is_some());
    let first: String = ask(&fleet, "select playbook_version from inference").await;

    playbooks.write("1.toml", &format!("# Changed.\n{text}"));
    fleet.stop("leadline-inference").await.expect("stopped");
    fleet.add("leadline-inference").await.expect("started");
    contact(&fleet, 2, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    ended_as(&fleet, &note_event(2, 1), "written", None).await;
    let versions = "select count(*) || ' of ' || count(distinct playbook_version) from inference";
    assert_eq!(ask::<String>(&fleet, versions).await, "2 of 1", "the version that has passed ran again");
    let check = fleet.leadline(&["check", "--no-questions"]).await.expect("runs");
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        check.contains("has not passed") && check.contains(&format!("{first} with gpt-6-luna would run")),
        "{check}"
    );
    let recorded = "select string_agg(passed::text || ' ' || hits || '/' || answers, ', ' order by at) from evaluation";
    assert_eq!(ask::<String>(&fleet, recorded).await, "false 0/1, true 1/1");
}
