//! The receiver refuses what is not HubSpot's, and loses nothing that is.

use hubspot::signature;
use lab::{Fleet, FleetPlan, fleet::PUBLIC_URL};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixtures::{BUYER, WITHIN, contact, ended_as, fleet, note_event, quick, send};

fn receiver_only() -> FleetPlan {
    FleetPlan { inferences: 0, writers: 0, ..quick() }
}

/// A request with a good signature made with `secret`.
pub fn signed(url: &str, secret: &str, body: Vec<u8>) -> reqwest::RequestBuilder {
    let timestamp = (OffsetDateTime::now_utc().unix_timestamp() * 1_000).to_string();
    let signature = signature::v3(secret, "POST", &signature::signed_uri(PUBLIC_URL), &body, &timestamp);
    reqwest::Client::new()
        .post(url)
        .header("X-HubSpot-Signature-v3", signature)
        .header("X-HubSpot-Request-Timestamp", timestamp)
        .body(body)
}

async fn post_signed(url: &str, secret: &str, body: Vec<u8>) -> Response {
    signed(url, secret, body).send().await.expect("an answer")
}

async fn post(fleet: &Fleet, body: impl Into<Vec<u8>>) -> (StatusCode, String) {
    let response = post_signed(&fleet.receivers()[0], &simulator::Config::default().client_secret, body.into()).await;
    (response.status(), response.text().await.expect("a body"))
}

#[tokio::test]
async fn bad_input_gets_its_own_clear_answer() {
    let fleet = fleet(&receiver_only()).await;
    let cases: [(&[u8], u16, &str); 5] = [
        (b"{}", 400, "not a JSON array"),
        (b"[1,", 400, "not a JSON array"),
        (b"[{\"a\":\"\xff\xfe\"}]", 400, "not a JSON array"),
        (b"[]", 400, "0 events"),
        (b"", 400, "not a JSON array"),
    ];
    for (body, status, says) in cases {
        let (got, answer) = post(&fleet, body).await;
        assert_eq!(got, status, "{answer}");
        assert!(answer.contains(says), "{says} in {answer}");
    }
    let (status, answer) = post(&fleet, json!(vec![note_event(1, 1); 101]).to_string()).await;
    assert_eq!((status, answer.contains("101 events")), (StatusCode::BAD_REQUEST, true));
    let (status, _) = post(&fleet, vec![b' '; 1_048_577]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let response =
        post_signed(&fleet.receivers()[0], "a stranger's", json!([note_event(1, 1)]).to_string().into_bytes()).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let unsigned = reqwest::Client::new().post(&fleet.receivers()[0]).body("[]").send().await.expect("an answer");
    assert_eq!(unsigned.status(), StatusCode::UNAUTHORIZED);
    assert!(
        unsigned.text().await.expect("a body").contains("X-HubSpot-Signature-v3"),
        "it says which header is missing"
    );
    let strange = reqwest::Client::new()
        .post(&fleet.receivers()[0])
        .header("X-HubSpot-Signature-v3", reqwest::header::HeaderValue::from_bytes(b"\xff\xfe").expect("opaque"))
        .header("X-HubSpot-Request-Timestamp", "99999999999999999999999")
        .body("[]");
    assert_eq!(strange.send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    let get = reqwest::get(&fleet.receivers()[0]).await.expect("an answer");
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn an_event_that_cannot_be_understood_is_parked_and_its_neighbours_are_not() {
    let fleet = fleet(&quick()).await;
    contact(&fleet, 1, &[BUYER]).await;
    let mut too_big = note_event(2, 1);
    too_big["objectId"] = json!(9_223_372_036_854_775_808_u64);
    let mut too_long = note_event(3, 1);
    too_long["propertyValue"] = json!("x".repeat(100_000));
    let mut unknown = note_event(4, 1);
    unknown["subscriptionType"] = json!("contact.teleported");
    let delivery = send(&fleet, &[too_big, note_event(1, 1), too_long, json!("text"), unknown]).await;
    assert_eq!(delivery.status, 200);
    assert_eq!(serde_json::from_str::<Value>(&delivery.answer).expect("JSON"), json!({"accepted": 1, "parked": 4}));
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    fleet.until_parked("leadline.events", 4, WITHIN).await.expect("parked");
    let messages = fleet.namespace.take_messages("leadline.events.parked", 4).await.expect("taken");
    let mut details: Vec<_> = messages
        .iter()
        .map(|message| message["properties"]["headers"]["x-leadline-detail"].as_str().expect("a detail").to_owned())
        .collect();
    details.sort();
    assert!(details[0].starts_with("events[0].objectId: is no 64-bit integer"), "{details:?}");
    assert!(details[1].starts_with("events[2].propertyValue: has 100000 characters"), "{details:?}");
    assert!(details[2].starts_with("events[3]: is no JSON object"), "{details:?}");
    assert!(details[3].starts_with("events[4].subscriptionType: `contact.teleported`"), "{details:?}");
    let payloads: String = messages.iter().map(|message| message["payload"].as_str().expect("text")).collect();
    assert!(payloads.contains("9223372036854775808"), "what HubSpot sent is kept to the digit");
}

#[tokio::test]
async fn a_full_queue_is_answered_503_with_retry_after() {
    let fleet =
        fleet(&receiver_only().with("broker.max_queue_length", "10").with("receiver.retry_after_seconds", "7")).await;
    let mut statuses = Vec::new();
    for n in 0..5 {
        let events: Vec<_> = (0..10).map(|id| note_event(id, n)).collect();
        let response = post_signed(
            &fleet.receivers()[0],
            &simulator::Config::default().client_secret,
            json!(events).to_string().into_bytes(),
        )
        .await;
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(response.headers()["retry-after"], "7");
        }
        statuses.push(response.status().as_u16());
    }
    assert_eq!(statuses[0], 200);
    assert_eq!(statuses[4], 503, "{statuses:?}");
}

#[tokio::test]
async fn a_client_that_dawdles_is_cut_off() {
    let fleet = fleet(&receiver_only().with("receiver.read_timeout_ms", "300")).await;
    let address = fleet.receivers()[0].replace("http://", "").replace("/webhooks/hubspot", "");
    let mut answers = Vec::new();
    for beginning in ["POST /webhooks/hubspot HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n[", "POST /webhooks/hub"]
    {
        let mut stream = tokio::net::TcpStream::connect(&address).await.expect("connected");
        stream.write_all(beginning.as_bytes()).await.expect("written");
        let mut answer = String::new();
        let read = tokio::time::timeout(std::time::Duration::from_secs(5), stream.read_to_string(&mut answer));
        read.await.expect("cut off in time").expect("closed");
        answers.push(answer);
    }
    assert!(answers[0].starts_with("HTTP/1.1 408"), "{answers:?}");
    assert!(answers[1].is_empty() || answers[1].starts_with("HTTP/1.1 408"), "{answers:?}");
}

#[tokio::test]
async fn both_secrets_of_a_rotation_are_good_and_v2_only_where_it_is_switched_on() {
    let plan = receiver_only()
        .with("hubspot.client_secret_previous", "the-old-one")
        .with("hubspot.signature_versions", "v3,v2");
    let with_v2 = fleet(&plan).await;
    let body = json!([note_event(1, 1)]).to_string();
    for secret in ["the-old-one", simulator::Config::default().client_secret.as_str()] {
        assert_eq!(post_signed(&with_v2.receivers()[0], secret, body.clone().into_bytes()).await.status(), 200);
    }
    let without_v2 = fleet(&receiver_only()).await;
    let signature = signature::v2(&simulator::Config::default().client_secret, "POST", PUBLIC_URL, body.as_bytes());
    for (fleet, status) in [(&with_v2, 200), (&without_v2, 401)] {
        let request = reqwest::Client::new()
            .post(&fleet.receivers()[0])
            .header("X-HubSpot-Signature", &signature)
            .body(body.clone());
        assert_eq!(request.send().await.expect("an answer").status(), status);
    }
}
