//! The figures of a playbook are those of what is in the ledger.

use domain::{CommandState, Correction, CorrectionSource, EventState, Rate, Reason};
use ledger::{AnswerCounts, CommandResult, Decision, FieldValue, PropertyFigures, SkippedWrite};
use time::{Duration, OffsetDateTime};

use crate::fixtures::{PLAYBOOK, TestLedger, contact, decision, event, inference, result};

/// Since long before any event of a test.
const EVER: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// Two versions of a playbook: four written answers of the first, one of them changed by a person; of the second three by one model, of
/// which one was changed, one kept and one parked as refused, and one by another model.
async fn two_versions() -> TestLedger {
    let test = TestLedger::new().await;
    for id in [1, 2, 3, 4, 5, 8] {
        let command = test.decided(&event(id, 1)).await;
        test.written(&command, "a").await;
    }
    let kept = test.decided(&event(6, 1)).await;
    test.lease(&kept.record, "a").await;
    let attempt = test.claimed_command(&kept, "a").await;
    let skipped = SkippedWrite {
        property: "lead_score".to_owned(),
        reason: Reason::KeptHumanValue,
        current_value: Some("12".to_owned()),
        proposed_value: "85".to_owned(),
    };
    let reason = Some(Reason::KeptHumanValue);
    let result =
        CommandResult { skipped_writes: vec![skipped], ..result(&kept, attempt, CommandState::Skipped, reason) };
    assert!(test.finish(&result, "a").await);
    let claimed = test.claimed(&event(7, 1), "inference").await;
    let parked = decision(&claimed, EventState::Parked, Some(Reason::Refused));
    let playbook = Some(PLAYBOOK.to_owned());
    assert!(test.commit(&Decision { inferences: vec![inference(&contact(7))], playbook, ..parked }).await);
    // The first version's answers are two days old.
    test.run(
        "update inference set playbook_version = case when object_id <= 4 then 'one' else 'two' end,
                created_at = now() - case when object_id <= 4 then interval '2 days' else interval '1 hour' end,
                latency_ms = 100 * object_id, fields = jsonb_build_object('lead_score', object_id * 10, 'mood', 'calm'),
                outcome = case when object_id = 7 then 'refused' else 'valid' end,
                unverified = case when object_id = 6 then array['budget'] else '{}' end,
                model = case when object_id = 8 then 'another' else 'gpt' end",
    )
    .await;
    for id in [1, 5] {
        let correction = Correction {
            record: contact(id),
            property: "lead_score".to_owned(),
            value: Some("12".to_owned()),
            changed_at: OffsetDateTime::now_utc() + Duration::minutes(1),
        };
        let recorded = test.ledger.record_corrections(&[correction], CorrectionSource::Webhook).await;
        assert_eq!(recorded.expect("recorded").len(), 1);
    }
    test
}

#[tokio::test]
async fn each_version_and_model_has_the_figures_of_its_answers() {
    let test = two_versions().await;
    let figures = test.ledger.playbook_figures(PLAYBOOK, EVER).await.expect("counted");
    let places: Vec<_> = figures.iter().map(|one| (one.version.as_str(), one.model.as_deref())).collect();
    let expected = [("two", None), ("two", Some("another")), ("two", Some("gpt")), ("one", None), ("one", Some("gpt"))];
    assert_eq!(places, expected, "the newest first");

    let of_gpt = &figures[2];
    let counts = AnswerCounts { asked: 3, valid: 2, unverified: 1, refused: 1, unusable: 0, parked: 1 };
    assert_eq!(of_gpt.answers, counts);
    assert_eq!((of_gpt.effects.written, of_gpt.effects.overridden), (1, 1));
    assert_eq!(of_gpt.effects.kept, [(Reason::KeptHumanValue, 1)]);
    assert_eq!(of_gpt.cost_micro_dollars, Some(7_500));
    assert_eq!(of_gpt.latency_ms, Some((500, 600)), "of the valid ones");
    assert_eq!(of_gpt.refused(), Rate::of(1, 3));

    assert_eq!((figures[0].answers.asked, figures[0].overridden()), (4, Rate::of(1, 2)), "of all models");
    assert_eq!((figures[3].answers.asked, figures[3].overridden()), (4, Rate::of(1, 4)));
    assert_eq!(figures[3].latency_ms, Some((200, 400)));

    let yesterday = OffsetDateTime::now_utc() - Duration::days(1);
    let recent = test.ledger.playbook_figures(PLAYBOOK, yesterday).await.expect("counted");
    assert!(recent.iter().all(|one| one.version == "two"), "{recent:?}");
    assert_eq!(test.ledger.playbook_figures("another", EVER).await.expect("counted"), []);
    assert_eq!(test.ledger.parked_unanswered(PLAYBOOK, EVER).await.expect("counted"), 0, "it was answered: refused");
}

#[tokio::test]
async fn a_version_has_the_figures_of_its_properties_and_the_spread_of_its_fields() {
    let test = two_versions().await;
    let figures = test.ledger.property_figures((PLAYBOOK, "one"), EVER, 100).await.expect("counted");
    let score =
        |written, kept, overridden| PropertyFigures { property: "lead_score".to_owned(), written, kept, overridden };
    assert_eq!(figures, [score(4, 0, 1)]);
    let figures = test.ledger.property_figures((PLAYBOOK, "two"), EVER, 100).await.expect("counted");
    assert_eq!(figures, [score(2, 1, 1)]);

    let fields = ["lead_score".to_owned(), "mood".to_owned(), "no_such_field".to_owned()];
    let values = test.ledger.field_values((PLAYBOOK, "two"), EVER, 2, &fields).await.expect("counted");
    let value = |field: &str, value: &str, answers| FieldValue {
        field: field.to_owned(),
        value: Some(value.to_owned()),
        answers,
    };
    assert_eq!(values.iter().map(|value| value.answers).sum::<i64>(), 4, "two fields of two answers: {values:?}");
    assert!(values.contains(&value("mood", "calm", 2)), "{values:?}");
}

/// A ledger of a million events has answers of other playbooks, and old ones.
#[tokio::test]
async fn the_figures_are_found_without_reading_whole_tables() {
    let test = two_versions().await;
    test.run("analyze").await;
    for statement in [
        "select count(*) from inference where playbook = 'x' and created_at >= now() - interval '30 days'",
        "select record_corrections(array[9876543], array['0-1'], array[1], array['lead_score'], array['13'],
                                   array[now() + interval '1 hour'], 'read')",
    ] {
        assert_eq!(test.tables_read(statement).await, Vec::<String>::new(), "{statement}");
    }
}
