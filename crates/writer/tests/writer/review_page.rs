//! Deciding without a shell: a channel is told what waits, and each proposal has a page.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{EventState, WriteCommand, WriteCommandId, review::WriteMode};
use ledger::Verdict;
use reqwest::StatusCode;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use writer::{
    Channels,
    review::{ReviewDigest, ReviewLinks, router},
};

use crate::{
    fixtures::{TestWriter, set},
    review::under,
};

/// The page of a writer's proposals, and what it publishes.
struct TestPage {
    links: ReviewLinks,
    published: Arc<Mutex<Vec<WriteCommandId>>>,
}

impl TestPage {
    async fn of(writer: &TestWriter) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let links = links(&url);
        let published = Arc::new(Mutex::new(Vec::new()));
        let kept = published.clone();
        let publish = Arc::new(move |id| {
            kept.lock().expect("not poisoned").push(id);
            Box::pin(async {}) as futures_util::future::BoxFuture<'static, ()>
        });
        let router = router(writer.ledger.clone(), links.clone(), publish);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { links, published }
    }

    fn published(&self) -> Vec<WriteCommandId> {
        self.published.lock().expect("not poisoned").clone()
    }
}

fn links(url: &str) -> ReviewLinks {
    ReviewLinks::new(&"x".repeat(32).into(), url, Duration::from_secs(600)).expect("a secret")
}

async fn proposal(writer: &TestWriter, contact: i64, summary: &str) -> WriteCommand {
    let record = writer.contact(contact).await;
    let asked = (&[set("ai_lead_summary", summary)][..], vec![]);
    let command = writer.decide_under(under(WriteMode::Review), &record, 1, asked).await;
    writer.proposed(&command).await;
    command
}

#[tokio::test]
async fn looking_at_a_page_changes_nothing_and_one_click_decides_once() {
    let writer = TestWriter::start().await;
    let page = TestPage::of(&writer).await;
    let command = proposal(&writer, 1, "<script>alert('buy')</script> \"now\" & here").await;
    let url = page.links.url(command.id, 1, OffsetDateTime::now_utc());
    for _ in 0..2 {
        let shown = writer.http.get(&url).send().await.expect("answered");
        assert_eq!(shown.status(), StatusCode::OK);
        for (header, value) in
            [("cache-control", "no-store"), ("referrer-policy", "no-referrer"), ("x-content-type-options", "nosniff")]
        {
            assert_eq!(shown.headers()[header], value);
        }
        let policy = shown.headers()["content-security-policy"].to_str().expect("text").to_owned();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        let html = shown.text().await.expect("text");
        assert!(!html.contains("<script"), "{html}");
        assert!(
            html.contains("&lt;script&gt;alert(&#39;buy&#39;)&lt;/script&gt; &quot;now&quot; &amp; here"),
            "{html}"
        );
    }
    writer.ended_as(&command, EventState::Proposed, None).await;

    let forged = url.replace("attempt=1", "attempt=2");
    assert_eq!(writer.http.get(&forged).send().await.expect("answered").status(), StatusCode::NOT_FOUND);
    let post = |url: &str, body: &'static str| {
        let request = writer.http.post(url).header("content-type", "application/x-www-form-urlencoded").body(body);
        async move { request.send().await.expect("answered").status() }
    };
    assert_eq!(post(&forged, "decision=approve").await, StatusCode::NOT_FOUND);
    let plain = url.split_once('?').expect("a query").0;
    assert_eq!(post(plain, "decision=approve").await, StatusCode::BAD_REQUEST, "another site knows no signature");
    assert_eq!(post(&url, "by=Ada").await, StatusCode::BAD_REQUEST, "no button");
    let late = links(plain).url(command.id, 1, OffsetDateTime::UNIX_EPOCH);
    let late = url.split_once('?').expect("a query").0.to_owned() + "?" + late.split_once('?').expect("a query").1;
    assert_eq!(post(&late, "decision=approve").await, StatusCode::GONE, "expired");
    writer.ended_as(&command, EventState::Proposed, None).await;

    assert_eq!(post(&url, "decision=approve&by=Ada+L.").await, StatusCode::OK);
    assert_eq!(post(&url, "decision=reject&why=no").await, StatusCode::GONE, "a link works once");
    assert_eq!(page.published(), [command.id]);
    assert_eq!(writer.handle(&command).await, broker::Disposition::Done);
    writer.ended_as(&command, EventState::Written, None).await;
    assert_eq!(writer.ledger.reviews(command.id).await.expect("an answer")[0].by, "Ada L. (by link)");
}

#[tokio::test]
async fn a_rejection_by_link_says_why_and_an_older_link_does_not_decide_about_what_is_proposed_anew() {
    let writer = TestWriter::start().await;
    let page = TestPage::of(&writer).await;
    let command = proposal(&writer, 1, "A buyer.").await;
    let now = OffsetDateTime::now_utc();
    let old = page.links.url(command.id, 1, now);
    writer.edit(1, "ai_lead_summary", "A person's words.", "CRM_UI").await;
    let approve = Verdict::Approve([].into());
    assert!(writer.ledger.decide_proposal(command.id, 1, &approve, "a").await.expect("decided"));
    assert_eq!(writer.handle(&command).await, broker::Disposition::Done);
    assert_eq!(writer.http.get(&old).send().await.expect("answered").status(), StatusCode::GONE);
    let new = page.links.url(command.id, 2, now);
    let html = writer.http.get(&new).send().await.expect("answered").text().await.expect("text");
    assert!(html.contains("has changed a value") && html.contains("A person&#39;s words."), "{html}");
    let reject = writer.http.post(&new).body("decision=reject&why=not+a+buyer").send().await.expect("answered");
    assert_eq!(reject.status(), StatusCode::OK);
    writer.ended_as(&command, EventState::Skipped, Some(domain::Reason::Rejected)).await;
    let reviews = writer.ledger.reviews(command.id).await.expect("an answer");
    assert_eq!(reviews.last().and_then(|review| review.why.clone()).as_deref(), Some("not a buyer"));
    assert!(page.published().is_empty());
}

#[tokio::test]
async fn a_link_to_a_proposal_of_which_a_newer_one_has_taken_a_part_over_does_not_hold_any_more() {
    let writer = TestWriter::start().await;
    let page = TestPage::of(&writer).await;
    let record = writer.contact(1).await;
    let both = [set("ai_lead_summary", "A buyer."), set("lead_score", "85")];
    let older = writer.decide_under(under(WriteMode::Review), &record, 1, (&both, vec![])).await;
    writer.proposed(&older).await;
    let link = page.links.url(older.id, 1, OffsetDateTime::now_utc());
    assert_eq!(writer.http.get(&link).send().await.expect("answered").status(), StatusCode::OK);
    let newer = writer.decide_under(under(WriteMode::Review), &record, 2, (&both[1..], vec![])).await;
    writer.proposed(&newer).await;
    assert_eq!(writer.http.get(&link).send().await.expect("answered").status(), StatusCode::GONE);
    let approved = writer.http.post(&link).body("decision=approve").send().await.expect("answered");
    assert_eq!(approved.status(), StatusCode::GONE);
    assert!(page.published().is_empty());
}

#[tokio::test]
async fn a_channel_is_told_once_what_waits_and_gets_no_word_of_strangers() {
    let writer = TestWriter::start().await;
    let url = format!("{}/_simulator/channels/sales", writer.simulator_url);
    let channels = Channels::new([].into(), Duration::from_secs(5)).expect("channels");
    let digest = ReviewDigest {
        ledger: writer.ledger.clone(),
        channels: Arc::new(channels),
        channel: url.into(),
        links: Some(links("https://review.example.com")),
    };
    digest.pass().await.expect("nothing waits");
    let command = proposal(&writer, 1, "<!channel> buy now").await;
    digest.pass().await.expect("told");
    digest.pass().await.expect("told before");
    let messages = writer.messages().await;
    let [message] = &messages[..] else { panic!("{messages:?}") };
    let expected = format!("contact/1 (ai_lead_summary) <https://review.example.com/review/{}?attempt=1&", command.id);
    let text = message.body["text"].as_str().expect("a text");
    assert!(text.contains(&expected) && !text.contains("buy now"), "{text}");
}
