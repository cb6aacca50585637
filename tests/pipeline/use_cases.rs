//! The guide's three use cases, each from a webhook to what a person finds in HubSpot.

use simulator::{Call, Fault, FaultKind, Target, admin::Quirks};

use fixtures::{
    BUYER, PlaybookFolder, WITHIN, approved_as, ask, contact, ended_as, fleet, happened, held, note, note_event,
    object, pipeline, property, questions, send_accepted, tasks, until,
};

/// A score of 75: no one has to be called.
const HOPEFUL: &str = "They have $50k ready for Q1.";

const ANGRY: &str = "<p>This is <b>unacceptable</b>. It is still broken and we want a refund.</p>";

#[tokio::test]
async fn a_promising_lead_is_scored_called_and_announced_and_a_poor_one_is_not() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    contact(&fleet, 2, &["A student writing her thesis."]).await;
    send_accepted(&fleet, &[note_event(1, 1), note_event(2, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    ended_as(&fleet, &note_event(2, 1), "written", None).await;
    let tasks = tasks(&fleet).await;
    let [task] = &tasks[..] else { panic!("one task: {tasks:?}") };
    assert_eq!(task.properties["hs_task_priority"], "HIGH");
    assert_eq!(task.properties["hs_task_subject"], "Call Ada: score 85");
    assert!(task.properties["hs_task_body"].contains("very excited to start"), "{task:?}");
    let messages = fleet.simulator.messages().await.expect("asked");
    let [message] = &messages[..] else { panic!("one message: {messages:?}") };
    assert_eq!(message.channel, "sales");
    assert!(message.body["text"].as_str().is_some_and(|text| text.contains("(Marsh) scores 85")), "{message:?}");
    let notified = story
        .actions
        .iter()
        .find(|action| action.kind == domain::write_command::ActionKind::Notify)
        .expect("in the ledger");
    assert_eq!(message.key.as_deref(), Some(notified.id.to_string().as_str()));
    let made = story
        .actions
        .iter()
        .find(|action| action.kind == domain::write_command::ActionKind::CreateTask)
        .expect("in the ledger");
    assert_eq!((made.state.as_str(), made.hubspot_id), ("done", Some(task.id)));

    // There is more to know: the score follows, but no one is called twice within a week.
    note(&fleet, 501, 1, "The CTO joins the next call.").await;
    send_accepted(&fleet, &[note_event(1, 2)]).await;
    let again = ended_as(&fleet, &note_event(1, 2), "written", None).await;
    let reasons: Vec<_> = again.actions.iter().map(|action| action.reason.map(domain::Reason::as_str)).collect();
    assert_eq!(reasons, [Some("done_recently"), Some("done_recently")]);
    assert_eq!(fixtures::tasks(&fleet).await.len(), 1);
}

#[tokio::test]
async fn an_event_on_a_note_is_carried_to_every_contact_that_it_is_associated_with() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[]).await;
    contact(&fleet, 2, &[]).await;
    let body = [("hs_note_body", BUYER), ("hs_timestamp", "2026-11-20T10:00:00Z")];
    object(&fleet, "note", 50, &body, &[("contact", 1), ("contact", 2)]).await;
    // The guide's own name of the event.
    let mut event = happened("note", 50, "creation", None, 1);
    event["subscriptionType"] = serde_json::json!("engagement.creation");
    let lonely = happened("note", 51, "creation", None, 2);
    object(&fleet, "note", 51, &body, &[]).await;
    send_accepted(&fleet, &[event.clone(), lonely.clone()]).await;
    let story = ended_as(&fleet, &event, "written", None).await;
    assert_eq!(story.inferences.len(), 2, "one for each");
    for id in [1, 2] {
        assert_eq!(property(&fleet, id, "ai_budget_estimate").await.as_deref(), Some("50000"));
    }
    ended_as(&fleet, &lonely, "skipped", Some("no_record")).await;
}

#[tokio::test]
async fn an_unhappy_tickets_account_owner_gets_a_task_and_the_deal_moves_to_risk() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[]).await;
    let stage =
        |stage| [("dealname", "Renewal"), ("dealstage", stage), ("pipeline", "default"), ("hubspot_owner_id", "71")];
    object(&fleet, "deal", 20, &stage("contractsent"), &[("contact", 1)]).await;
    object(&fleet, "deal", 21, &stage("closedwon"), &[("contact", 1)]).await;
    object(&fleet, "ticket", 30, &[("subject", "Outage"), ("content", ANGRY)], &[("contact", 1)]).await;
    let mail = [
        ("hs_timestamp", "2026-11-20T10:00:00Z"),
        ("hs_email_direction", "INCOMING_EMAIL"),
        ("hs_email_subject", "Re: Outage"),
        (
            "hs_email_text",
            "Nobody answers us.\n\nOn Monday you wrote:\n> We love to help.\n> Thank you for being great.",
        ),
    ];
    object(&fleet, "email", 60, &mail, &[("ticket", 30)]).await;
    let event = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    ended_as(&fleet, &event, "proposed", None).await;
    // The values are written; the move waits for a person.
    assert!(held(&fleet, "ticket", 30, "ai_sentiment_score").await.is_some());
    assert_eq!(held(&fleet, "deal", 20, "dealstage").await.as_deref(), Some("contractsent"));
    let listed = fleet.leadline(&["review", "list", "--record", "deal/20", "--json"]).await.expect("runs");
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(
        (&listed[0]["record"], &listed[0]["what"]),
        (&"deal/20".into(), &"dealstage: contractsent → 991231".into())
    );
    let story = approved_as(&fleet, &event, "churn-risk", ("written", None)).await;
    let prompt = story.inferences[0].prompt.as_ref().expect("kept").to_string();
    assert!(prompt.contains("Nobody answers us") && !prompt.contains("We love to help"), "quotes are cut: {prompt}");

    let sentiment: f64 =
        held(&fleet, "ticket", 30, "ai_sentiment_score").await.expect("set").parse().expect("a number");
    assert!((-1.0..=-0.5).contains(&sentiment), "{sentiment}");
    assert_eq!(property(&fleet, 1, "ai_sentiment_score").await, Some(sentiment.to_string()));
    assert_eq!(held(&fleet, "ticket", 30, "ai_churn_urgency").await.as_deref(), Some("high"));
    let tasks = tasks(&fleet).await;
    let [task] = &tasks[..] else { panic!("one task: {tasks:?}") };
    assert_eq!(
        (task.properties["hubspot_owner_id"].as_str(), task.properties["hs_task_priority"].as_str()),
        ("71", "HIGH")
    );

    // `Risk` is a label; the portal's id of it is a number. A closed deal stays where it is.
    assert_eq!(held(&fleet, "deal", 20, "dealstage").await.as_deref(), Some("991231"));
    assert_eq!(held(&fleet, "deal", 21, "dealstage").await.as_deref(), Some("closedwon"));
    let moves: Vec<_> =
        story.actions.iter().filter(|action| action.kind == domain::write_command::ActionKind::MoveDeal).collect();
    assert!(moves.iter().any(|action| action.state == domain::ActionState::Done));
    assert!(moves.iter().any(|action| action.reason.map(domain::Reason::as_str) == Some("deal_closed")), "{moves:?}");
    let write =
        story.writes.iter().find(|write| write.property == "dealstage").expect("traced, so that it can be undone");
    assert_eq!((write.before.as_deref(), write.after.as_str()), (Some("contractsent"), "991231"));
}

#[tokio::test]
async fn a_deals_mood_is_read_from_what_its_contacts_wrote() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &["Danke, very helpful. They love it."]).await;
    object(&fleet, "deal", 20, &[("dealstage", "contractsent"), ("pipeline", "default")], &[("contact", 1)]).await;
    let event = happened("deal", 20, "propertyChange", Some("notes_last_updated"), 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    let story = ended_as(&fleet, &event, "written", None).await;
    let sentiment: f64 = held(&fleet, "deal", 20, "ai_sentiment_score").await.expect("set").parse().expect("a number");
    assert!(sentiment > 0.5, "{sentiment}");
    assert!(story.actions.is_empty(), "no one has to be told");
    assert_eq!(held(&fleet, "deal", 20, "dealstage").await.as_deref(), Some("contractsent"));
}

#[tokio::test]
async fn a_deal_whose_pipeline_knows_no_such_stage_stays_and_everything_else_is_done() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[]).await;
    object(&fleet, "deal", 20, &[("dealstage", "880001"), ("pipeline", "renewals")], &[("contact", 1)]).await;
    object(&fleet, "ticket", 30, &[("content", ANGRY)], &[("contact", 1)]).await;
    let event = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    let story = ended_as(&fleet, &event, "written", None).await;
    assert!(
        story.actions.iter().any(|action| action.reason == Some(domain::Reason::NoSuchStage)),
        "{:?}",
        story.actions
    );
    assert_eq!(held(&fleet, "deal", 20, "dealstage").await.as_deref(), Some("880001"));
    assert_eq!(tasks(&fleet).await.len(), 1);
    assert!(held(&fleet, "ticket", 30, "ai_sentiment_score").await.is_some());
}

/// An admin's rules bind writes through the API, too: a deal moves to this stage only with a close date.
#[tokio::test]
async fn a_move_that_an_admins_rule_refuses_is_parked_and_names_the_property() {
    let fleet = fleet(&pipeline().with("hubspot.api_version", "2026-09")).await;
    let quirks =
        Quirks { required_with_stage: [("991231".to_owned(), "closedate".to_owned())].into(), ..Quirks::default() };
    fleet.simulator.quirks(&quirks).await.expect("set");
    contact(&fleet, 1, &[]).await;
    object(&fleet, "deal", 20, &[("dealstage", "contractsent"), ("pipeline", "default")], &[("contact", 1)]).await;
    object(&fleet, "ticket", 30, &[("content", ANGRY)], &[("contact", 1)]).await;
    let event = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    let story = approved_as(&fleet, &event, "churn-risk", ("parked", Some("validation_error"))).await;
    let detail = story.detail.expect("a detail");
    assert!(detail.contains("closedate"), "{detail}");
    assert_eq!(held(&fleet, "deal", 20, "dealstage").await.as_deref(), Some("contractsent"));
    assert!(held(&fleet, "ticket", 30, "ai_sentiment_score").await.is_some(), "the rest is written");
}

#[tokio::test]
async fn a_call_becomes_a_summary_next_steps_and_tasks_with_due_dates() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[]).await;
    object(&fleet, "deal", 20, &[("dealname", "Pilot")], &[("contact", 1)]).await;
    let transcript = "<p>They liked the demo. We will send the offer by 2026-12-01. Ada will ask her board. \
        Next step is a workshop on 2026-12-10. Follow up with legal. We will book a room.</p>";
    let call = [
        ("hs_call_title", "Kick-off"),
        ("hs_call_body", transcript),
        ("hs_call_status", "COMPLETED"),
        ("hubspot_owner_id", "70"),
        ("hs_timestamp", "2026-11-20T10:00:00Z"),
    ];
    object(&fleet, "call", 40, &call, &[("contact", 1), ("deal", 20)]).await;
    object(&fleet, "call", 41, &[("hs_call_status", "NO_ANSWER"), ("hs_call_body", "x")], &[("contact", 1)]).await;
    let events = [happened("call", 40, "creation", None, 1), happened("call", 41, "creation", None, 2)];
    send_accepted(&fleet, &events).await;
    let story = ended_as(&fleet, &events[0], "written", None).await;
    let unanswered = ended_as(&fleet, &events[1], "skipped", Some("guard")).await;
    assert_eq!(unanswered.detail.as_deref(), Some("call_not_connected"));
    for (kind, id) in [("contact", 1), ("deal", 20)] {
        let summary = held(&fleet, kind, id, "ai_call_summary").await.expect("a summary");
        assert!(summary.contains("liked the demo"), "{summary}");
        let steps = held(&fleet, kind, id, "ai_next_steps").await.expect("steps");
        assert_eq!(steps.lines().count(), 5, "{steps}");
        assert!(steps.starts_with("• We will send the offer by 2026-12-01. (by 2026-12-01)"), "{steps}");
    }
    let mut tasks = tasks(&fleet).await;
    tasks.sort_by_key(|task| task.id);
    let due: Vec<_> = tasks.iter().map(|task| task.properties["hs_timestamp"].as_str()).collect();
    assert_eq!(due.len(), 3, "at most three, says the file");
    // A day ends at midnight in the portal's time zone, which is that of New York.
    assert_eq!((due[0], due[2]), ("2026-12-02T04:59:59Z", "2026-12-11T04:59:59Z"));
    assert!(tasks.iter().all(|task| task.properties["hubspot_owner_id"] == "70"));
    // Function calling: the answer came as a call's arguments.
    assert!(story.inferences[0].answer.as_deref().expect("kept").contains("next_steps"));
    let calls = fleet.simulator.calls(0).await.expect("asked");
    let question = calls.iter().find(|call| call.path == "/v1/chat/completions").expect("asked");
    assert_eq!(question.request["tool_choice"]["function"]["name"], "call-summary");
}

#[tokio::test]
async fn guards_and_conditions_ask_nothing_and_say_why() {
    let fleet = fleet(&pipeline()).await;
    for (id, property, value) in [(1, "lifecyclestage", "customer"), (2, "hs_email_optout", "true")] {
        object(&fleet, "contact", id, &[(property, value)], &[]).await;
        note(&fleet, 500 + id, id, BUYER).await;
    }
    send_accepted(&fleet, &[note_event(1, 1), note_event(2, 1)]).await;
    for (id, guard) in [(1, "customer"), (2, "unsubscribed")] {
        let story = ended_as(&fleet, &note_event(id, 1), "skipped", Some("guard")).await;
        assert_eq!(story.detail.as_deref(), Some(guard));
    }
    assert_eq!(questions(&fleet).await, 0);
}

/// The lead qualification, and a second playbook that asks the same and writes its score elsewhere.
pub fn two_playbooks(name: &str) -> PlaybookFolder {
    let shipped = include_str!("../../deploy/playbooks/lead-qualification.toml");
    let other: String = shipped
        .replace("name = \"lead-qualification\"", "name = \"second-opinion\"")
        .replace("You qualify sales leads", "The second opinion: you qualify sales leads")
        .replace("\"lead_score\"\nfield", "\"ai_sentiment_score\"\nfield");
    let (other, _) = other.split_once("[[writes]]\nproperty = \"ai_lead_summary\"").expect("there");
    PlaybookFolder::new(name, &[shipped, other])
}

/// Both playbooks' values go in one update; HubSpot does not take one of them.
#[tokio::test]
async fn one_playbooks_bad_value_costs_no_other_its_write() {
    let folder = two_playbooks("bad-value");
    let plan = pipeline().with("writer.batch_linger_ms", "5000");
    let fleet = fleet(&plan.with("inference.playbooks", folder.path())).await;
    let quirks = Quirks { maxima: [("ai_sentiment_score".to_owned(), 50)].into(), ..Quirks::default() };
    fleet.simulator.quirks(&quirks).await.expect("set");
    contact(&fleet, 1, &[HOPEFUL]).await;
    contact(&fleet, 2, &[HOPEFUL]).await;
    // While a batch is under way, the next one is collected.
    let busy =
        Fault::new(Target::Hubspot, FaultKind::Held).on_path("/contacts/batch/update").containing("\"id\":\"2\"");
    fleet.simulator.fault(&busy).await.expect("set");
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    let sending = "select count(*) from write_command where object_id = 2 and state = 'sending'";
    until("a batch is under way", async || ask::<i64>(&fleet, sending).await > 0).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "parked", Some("validation_error")).await;
    assert_eq!(property(&fleet, 1, "lead_score").await.as_deref(), Some("75"));
    assert_eq!(property(&fleet, 1, "ai_sentiment_score").await, None);
    let calls = fleet.simulator.calls(0).await.expect("asked");
    let is_update =
        |call: &&Call| call.path.ends_with("/contacts/batch/update") && call.request["inputs"][0]["id"] == "1";
    let first = calls.iter().find(is_update).expect("one");
    let values = &first.request["inputs"][0]["properties"];
    let both = ["lead_score", "ai_sentiment_score"].iter().all(|name| !values[name].is_null());
    assert!(both, "it was one update at first: {}", first.request);
}

/// The first playbook's answer is not held back by the second one's failure, and is not paid for again.
#[tokio::test]
async fn one_playbooks_failure_holds_back_no_other() {
    let folder = two_playbooks("failure");
    let fleet = fleet(&pipeline().with("inference.playbooks", folder.path())).await;
    let fault = |kind| Fault::new(Target::Openai, kind).containing("The second opinion");
    contact(&fleet, 1, &[HOPEFUL]).await;
    // Three tries in the process, then one round through a retry queue.
    fleet.simulator.fault(&fault(FaultKind::Status { code: 500, retry_after: None }).times(3)).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert!(story.history.iter().any(|entry| entry.state == domain::EventState::Waiting), "{:?}", story.history);
    assert_eq!(questions(&fleet).await, 5, "three failed, one each succeeded");
    assert_eq!(property(&fleet, 1, "lead_score").await.as_deref(), Some("75"));
    assert_eq!(property(&fleet, 1, "ai_sentiment_score").await.as_deref(), Some("75"));

    // One that is parked: the other's write is there all the same.
    contact(&fleet, 2, &[HOPEFUL]).await;
    fleet.simulator.fault(&fault(FaultKind::Refusal).times(None)).await.expect("set");
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    ended_as(&fleet, &note_event(2, 1), "parked", Some("refused")).await;
    let written = async {
        while property(&fleet, 2, "lead_score").await.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WITHIN, written).await.expect("written although its neighbour is parked");
}

/// Without the scope for them, HubSpot gives emails without their bodies: that is nothing to say, not an answer about
/// nothing; and `leadline check` names the scope.
#[tokio::test]
async fn redacted_emails_are_nothing_to_say_and_check_names_the_scope() {
    let arguments = vec!["--without-scope".to_owned(), "sales-email-read".to_owned()];
    let fleet = fleet(&lab::FleetPlan { simulator_arguments: arguments, ..pipeline() }).await;
    object(&fleet, "ticket", 30, &[], &[]).await;
    let mail =
        [("hs_timestamp", "2026-11-20T10:00:00Z"), ("hs_email_subject", "Outage"), ("hs_email_text", "Furious.")];
    object(&fleet, "email", 60, &mail, &[("ticket", 30)]).await;
    let event = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    ended_as(&fleet, &event, "skipped", Some("empty_context")).await;
    let check = fleet.leadline(&["check"]).await.expect("runs");
    assert!(String::from_utf8_lossy(&check.stdout).contains("the token lacks sales-email-read"));
}

/// A sensitive value is shown as `REDACTED` to a token without its scope, in the webhook and in the record.
#[tokio::test]
async fn a_sensitive_value_is_no_text_and_the_ledger_says_so() {
    let shipped = include_str!("../../deploy/playbooks/lead-qualification.toml");
    let text = "texts = [\"ai_call_summary\"]\nengagements = [\"notes\"]";
    let folder = PlaybookFolder::new("sensitive", &[&shipped.replace("engagements = [\"notes\"]", text)]);
    let fleet = fleet(&pipeline().with("inference.playbooks", folder.path())).await;
    object(&fleet, "contact", 1, &[("firstname", "Ada"), ("ai_call_summary", "REDACTED")], &[]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "skipped", Some("empty_context")).await;
    let detail = story.detail.expect("a detail");
    assert!(detail.contains("contact.ai_call_summary") && detail.contains("REDACTED"), "{detail}");
    assert_eq!(questions(&fleet).await, 0);
}

/// An engagement is associated with a record that does not exist and with one that does.
#[tokio::test]
async fn a_record_that_does_not_exist_takes_no_other_with_it() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[]).await;
    let body = [("hs_note_body", BUYER), ("hs_timestamp", "2026-11-20T10:00:00Z")];
    object(&fleet, "note", 50, &body, &[("contact", 1), ("contact", 404)]).await;
    let event = happened("note", 50, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    ended_as(&fleet, &event, "written", None).await;
    assert_eq!(property(&fleet, 1, "ai_budget_estimate").await.as_deref(), Some("50000"));
}
