//! What strangers cannot do to a receiver: fill its log, take the files of its internal listener, or its memory.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use lab::FleetPlan;
use reqwest::StatusCode;
use serde_json::{Value, json};
use testbed::{Process, free_port, workspace};
use tokio::net::{TcpSocket, TcpStream};

use fixtures::{fleet, note_event, quick, send_accepted, signed};

fn receiver_alone() -> FleetPlan {
    FleetPlan { inferences: 0, writers: 0, ..quick() }
}

#[tokio::test]
async fn a_thousand_refused_webhooks_are_counted_and_leave_a_few_lines_in_the_log() {
    let fleet = fleet(&receiver_alone().with("telemetry.refusals_per_minute", "20")).await;
    let (http, url) = (reqwest::Client::new(), fleet.receivers().remove(0));
    for _ in 0..1_000 {
        let answer = http.post(&url).body("[]").send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    // Another kind of refusal is not hidden by them.
    let unreadable = signed(&url, &simulator::Config::default().client_secret, b"{}".to_vec());
    assert_eq!(unreadable.send().await.expect("an answer").status(), StatusCode::BAD_REQUEST);
    let member = &fleet.members[fleet.indices("leadline-receiver")[0]];
    let log = member.process.log();
    let lines = log.lines().filter(|line| line.contains("rejected a webhook"));
    let (unsigned, others): (Vec<_>, Vec<_>) = lines.partition(|line| line.contains("401"));
    // They may fall into two minutes.
    assert!((1..=40).contains(&unsigned.len()), "{} lines", unsigned.len());
    assert_eq!(others.len(), 1, "{others:?}");
    let metrics = reqwest::get(format!("{}/metrics", member.admin_url)).await.expect("answers");
    let metrics = metrics.text().await.expect("text");
    let counted = "leadline_webhooks_total{service=\"leadline-receiver\",outcome=\"bad_signature\"} 1000";
    assert!(metrics.contains(counted), "{metrics}");
}

/// The process begins with room for three hundred files, and three hundred and fifty strangers come.
#[tokio::test]
async fn strangers_at_the_public_listener_leave_files_to_the_internal_one() {
    let fleet = fleet(&FleetPlan { receivers: 0, ..receiver_alone() }).await;
    let (public, admin) = (free_port().expect("a port"), free_port().expect("a port"));
    let path = workspace::binaries().expect("binaries").join("leadline-receiver");
    let log = std::env::temp_dir().join(format!("leadline-few-files-{public}.log"));
    let settings = [
        ("LEADLINE__RECEIVER__LISTEN", format!("127.0.0.1:{public}")),
        ("LEADLINE__ADMIN__LISTEN", format!("127.0.0.1:{admin}")),
        // They stay for as long as they may.
        ("LEADLINE__RECEIVER__READ_TIMEOUT_MS", "4000".to_owned()),
        ("LEADLINE__BROKER__CONFIRM_TIMEOUT_MS", "900".to_owned()),
    ];
    let process = Process::start("receiver with few files", Path::new("/bin/sh"), &log, |command| {
        command.args(["-c", "ulimit -Sn 300 && exec \"$0\""]).arg(&path);
        command.envs(fleet.operator_environment().iter().cloned()).envs(settings);
    })
    .expect("started");
    let livez = format!("http://127.0.0.1:{admin}/livez");
    // A connection for each question, as probes have it.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client");
    let up = async {
        while http.get(&livez).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), up).await.unwrap_or_else(|_| panic!("{}", process.log()));
    let mut strangers: Vec<TcpStream> = Vec::new();
    for stranger in [2, 3, 4].into_iter().cycle().take(350) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, stranger], 0))).expect("bound");
        strangers.push(socket.connect(SocketAddr::from(([127, 0, 0, 1], public))).await.expect("connected"));
    }
    for path in ["livez", "readyz"] {
        let asked = Instant::now();
        let answer = http.get(format!("http://127.0.0.1:{admin}/{path}")).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{path}: {}", process.log());
        // A free file would have to be waited for until the strangers are cut off.
        assert!(asked.elapsed() < Duration::from_secs(3), "{path}: {:?}", asked.elapsed());
    }
    drop(strangers);
    let _ = std::fs::remove_file(log);
}

/// Whatever they are answered: a debug build may be too slow for so many signatures at once.
#[tokio::test]
async fn the_largest_batches_that_hubspot_can_send_take_little_memory() {
    const LIMIT_KIB: u64 = 64 * 1_024;
    let plan = receiver_alone().with("receiver.read_timeout_ms", "4000").with("broker.confirm_timeout_ms", "900");
    let fleet = fleet(&plan).await;
    let batch: Vec<Value> = (0..100)
        .map(|n| {
            let mut event = note_event(1, n);
            event["propertyValue"] = json!("ä".repeat(65_536));
            event
        })
        .collect();
    let body = serde_json::to_vec(&batch).expect("JSON");
    assert!(body.len() > 13_000_000);
    let request = signed(&fleet.receivers()[0], &simulator::Config::default().client_secret, body);
    let sent: Vec<_> = (0..6).map(|_| tokio::spawn(request.try_clone().expect("a body in memory").send())).collect();
    for answer in sent {
        // A connection that is cut while the body is on its way has no answer.
        let status = answer.await.expect("sent").map(|answer| answer.status().as_u16());
        assert!(matches!(status, Ok(200 | 408) | Err(_)), "{status:?}");
    }
    let peak = fleet.peak_memory("leadline-receiver");
    assert!(peak < LIMIT_KIB, "{peak} KiB at the peak");
    println!("a receiver's peak memory with six batches of 13 MB: {peak} KiB");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
}
