//! Tokens, keys, secrets and passwords are replaced in their files while the fleet runs, and it goes on with the new ones.

use lab::{Fleet, FleetPlan};
use serde_json::json;
use simulator::Config;
use testbed::{Role, SecretMount, Services, TestNamespace};

use fixtures::{BUYER, ask, contact, ended_as, fleet, note_event, quick, send_accepted, signed, sql, until};

use crate::outages::{ready, watchful};

/// The metrics of every member that runs `program`.
async fn metrics(fleet: &Fleet, program: &str) -> String {
    let mut all = String::new();
    for index in fleet.indices(program) {
        let page = reqwest::get(format!("{}/metrics", fleet.members[index].admin_url)).await.expect("answers");
        all += &page.text().await.expect("text");
    }
    all
}

/// Waits until every member that runs `program` has counted this outcome of reading a setting again.
async fn is_counted(fleet: &Fleet, program: &str, setting: &str, outcome: &str) {
    let (setting, outcome) = (format!("setting=\"{setting}\""), format!("outcome=\"{outcome}\""));
    let is_sample = |line: &&str| {
        line.starts_with("leadline_secret_reloads_total{") && line.contains(&setting) && line.contains(&outcome)
    };
    let members = fleet.indices(program).len();
    until(&format!("{program} has counted {setting} {outcome}"), async || {
        metrics(fleet, program).await.lines().filter(is_sample).count() == members
    })
    .await;
}

/// Who takes what in the files.
const TAKEN: [(&str, &str); 3] = [
    ("leadline-inference", "hubspot.token"),
    ("leadline-inference", "openai.api_key"),
    ("leadline-writer", "hubspot.token"),
];

/// Both files come to hold ones that were revoked, and the fleet pauses. Then they hold good ones, and nobody restarts it.
#[tokio::test]
async fn a_fleet_goes_on_when_the_files_of_its_token_and_its_key_hold_new_ones() {
    let Config { token, api_key, .. } = Config::default();
    let mount = SecretMount::new(&[("token", &token), ("key", &api_key)]).expect("a folder");
    let plan = watchful()
        .with("broker.max_attempts", "1")
        .with("secrets.reload_seconds", "1")
        .with("hubspot.token_file", &mount.file("token"))
        .with("openai.api_key_file", &mount.file("key"));
    let fleet = fleet(&plan).await;
    mount.swap("2", &[("token", "pat-revoked"), ("key", "sk-revoked")]).expect("swapped");
    for (program, setting) in TAKEN {
        is_counted(&fleet, program, setting, "reloaded").await;
    }
    for id in 1..=5 {
        contact(&fleet, id, &[BUYER]).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
    }
    let is_paused = async |program: &str, setting: &str| {
        let answers = ready(&fleet, program).await;
        answers.iter().all(|(status, said)| *status == 503 && said.contains(setting))
    };
    until("the token is rejected", async || is_paused("leadline-inference", "hubspot.token").await).await;
    // The token alone: the workers get as far as the model, and find that the key is rejected as well.
    mount.swap("3", &[("token", &token), ("key", "sk-revoked")]).expect("swapped");
    until("the key is rejected", async || is_paused("leadline-inference", "openai.api_key").await).await;
    // An editor has emptied the file before it writes it.
    mount.swap("4", &[("token", &token), ("key", "")]).expect("swapped");
    is_counted(&fleet, "leadline-inference", "openai.api_key", "unreadable").await;
    mount.swap("5", &[("token", &token), ("key", &api_key)]).expect("swapped");
    for id in 1..=5 {
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
    for program in ["leadline-inference", "leadline-writer"] {
        until("all are ready", async || ready(&fleet, program).await.iter().all(|(status, _)| *status == 200)).await;
    }
    for secret in ["pat-revoked", "sk-revoked", &*token, &*api_key] {
        assert!(!fleet.logs().contains(secret), "a secret is in the log:\n{}", fleet.logs());
    }
    assert_eq!(ask::<i64>(&fleet, "select count(*) from parked").await, 0, "nothing has used up its one attempt");
}

#[tokio::test]
async fn a_receiver_takes_the_new_client_secret_and_the_previous_one_from_their_files() {
    let mount = SecretMount::new(&[("secret", "geheim-1"), ("previous", "")]).expect("a folder");
    let plan = FleetPlan { inferences: 0, writers: 0, with_echoes: false, ..quick() }
        .with("secrets.reload_seconds", "1")
        .with("hubspot.client_secret_file", &mount.file("secret"))
        .with("hubspot.client_secret_previous_file", &mount.file("previous"));
    let fleet = fleet(&plan).await;
    let url = fleet.receivers().remove(0);
    let body = json!([note_event(1, 1)]).to_string().into_bytes();
    let status = async |secret: &str| {
        let answer = signed(&url, secret, body.clone()).send().await.expect("an answer");
        answer.status().as_u16()
    };
    assert_eq!((status("geheim-1").await, status("geheim-2").await), (200, 401));
    mount.swap("2", &[("secret", "geheim-2"), ("previous", "geheim-1")]).expect("swapped");
    until("the new secret is good", async || status("geheim-2").await == 200).await;
    assert_eq!(status("geheim-1").await, 200, "HubSpot may sign with either");
    assert_eq!(status("").await, 401, "nobody can sign with no secret");
    mount.swap("3", &[("secret", "geheim-2"), ("previous", "")]).expect("swapped");
    until("the old secret is no longer good", async || status("geheim-1").await == 401).await;
    assert_eq!(status("geheim-2").await, 200);
    assert_eq!(status("").await, 401, "nobody can sign with no secret");
    // Its file may go as well, and a blank one is no secret.
    mount.swap("4", &[("secret", "geheim-2"), ("previous", "geheim-3")]).expect("swapped");
    until("there is another one", async || status("geheim-3").await == 200).await;
    mount.swap("5", &[("secret", "geheim-2")]).expect("swapped");
    until("it is gone", async || status("geheim-3").await == 401).await;
    mount.swap("6", &[("secret", "geheim-2"), ("previous", " ")]).expect("swapped");
    is_counted(&fleet, "leadline-receiver", "hubspot.client_secret_previous", "invalid").await;
    assert_eq!(status(" ").await, 401, "nobody can sign with no secret");
    assert!(!fleet.logs().contains("geheim"), "{}", fleet.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_go_on_with_a_new_password_of_the_database_when_the_old_one_is_gone() {
    http_client::install_tls_provider();
    // Its own, because passwords are asked for by server.
    let services = Services::private("", "").await.expect("services");
    let namespace = TestNamespace::new(&services).await.expect("a namespace");
    let url = |role: Role, password: &str| {
        let user = role.user();
        let url = namespace.postgres_url_of(role).expect("a URL");
        url.replacen(&format!("{user}:{user}@"), &format!("{user}:{password}@"), 1)
    };
    let old = [Role::Inference, Role::Writer].map(|role| url(role, role.user()));
    let mount = SecretMount::new(&[("inference", &old[0]), ("writer", &old[1])]).expect("a folder");
    let plan = FleetPlan { inferences: 0, writers: 0, ..quick() }.with("secrets.reload_seconds", "1");
    let mut fleet = Fleet::start(namespace.clone(), &plan).await.expect("a fleet");
    // From now on the workers' users have to give their passwords.
    let hba: String = ask(&fleet, "show hba_file").await;
    let rules = "host all leadline_inference,leadline_writer 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\nlocal all all trust\n";
    std::fs::write(&hba, rules).expect("written");
    sql(&fleet, "select pg_reload_conf()").await;
    for (program, secret) in [("leadline-inference", "inference"), ("leadline-writer", "writer")] {
        fleet.add_with_settings(program, &[("ledger.url_file", &mount.file(secret))]).await.expect("started");
    }
    fleet.until_ready().await.expect("with the old password");
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;

    // The old password is gone, and so are the connections that were made with it.
    sql(
        &fleet,
        "alter role leadline_inference password 'rotated'; alter role leadline_writer password 'rotated';
         select pg_terminate_backend(pid) from pg_stat_activity where usename in ('leadline_inference', 'leadline_writer')",
    )
    .await;
    contact(&fleet, 2, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    let is_away = async || {
        let answers = ready(&fleet, "leadline-inference").await;
        answers.iter().all(|(status, said)| *status == 503 && said.contains("28P01"))
    };
    until("the old password is refused", is_away).await;
    let new = [Role::Inference, Role::Writer].map(|role| url(role, "rotated"));
    mount.swap("2", &[("inference", &new[0]), ("writer", &new[1])]).expect("swapped");
    ended_as(&fleet, &note_event(2, 1), "written", None).await;
    is_counted(&fleet, "leadline-writer", "ledger.url", "reloaded").await;
    assert!(!fleet.logs().contains("rotated"), "{}", fleet.logs());
    assert_eq!(ask::<i64>(&fleet, "select count(*) from parked").await, 0);
}
