//! What the model does not read, and that it is all put back.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

use std::{collections::BTreeSet, sync::Arc};

use domain::{ObjectId, ObjectType, PortalId, RecordRef, review::WriteMode, write_command::ActionSpec};
use playbook::{
    Context, LocalTime, MaskKind, MaskedContext, MaskedKind, Masking, Playbook, PortalZone, RecordPath,
    context::{ContextEntry, ContextRecord},
};
use proptest::prelude::*;
use serde_json::json;
use time::OffsetDateTime;

const ALL: [MaskKind; 5] =
    [MaskKind::Emails, MaskKind::Phones, MaskKind::Cards, MaskKind::BankAccounts, MaskKind::Names];

fn masking(deny: &[&str]) -> Masking {
    Masking { mask: BTreeSet::from(ALL), deny: deny.iter().map(|name| (*name).to_owned()).collect() }
}

fn record(path: &str, id: i64, properties: &[(&str, &str)]) -> ContextRecord {
    let path = RecordPath::parse(path).expect("a path");
    let object_type = path.end().clone();
    ContextRecord {
        path,
        record: RecordRef { portal_id: PortalId(1), object_type, object_id: ObjectId(id) },
        properties: properties.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect(),
        merged: false,
        archived: false,
        is_text: false,
    }
}

/// Texts, newest first, of Ada Marsh.
fn context(texts: &[&str]) -> Arc<Context> {
    let entries = texts.iter().zip((1..).map(|n: i64| 1_000 - n)).map(|(text, day)| ContextEntry {
        kind: ObjectType::Note,
        id: ObjectId(day),
        is_own: true,
        at: OffsetDateTime::UNIX_EPOCH + time::Duration::days(day),
        text: (*text).to_owned(),
    });
    let ada = [("email", "ada@marsh.test"), ("firstname", "Ada"), ("lastname", "Marsh"), ("phone", "+49 555 1234567")];
    Arc::new(Context { records: vec![record("contact", 1, &ada)], entries: entries.collect() })
}

fn masked(texts: &[&str]) -> MaskedContext {
    masking(&[]).mask(&context(texts))
}

fn text(masked: &MaskedContext, index: usize) -> &str {
    &masked.context.entries[index].text
}

#[test]
fn everything_is_masked_once_for_each_value_and_put_back() {
    let note = "Ada (ADA@marsh.test, ada@marsh.test) at 0555 1234567, card 4111-1111-1111-1111, \
        IBAN DE89370400440532013000, on 2026-11-24 for 1.500.000 EUR. Ada Marsh";
    let masked = masked(&[note, "Write to ada@marsh.test"]);
    assert_eq!(
        text(&masked, 0),
        "[PERSON-1] ([EMAIL-1.2], [EMAIL-1]) at [PHONE-2], card [CARD-1], \
         IBAN [BANK-1], on 2026-11-24 for 1.500.000 EUR. [PERSON-1.3]"
    );
    assert_eq!(text(&masked, 1), "Write to [EMAIL-1]");
    assert_eq!(masked.masks.put_back(text(&masked, 0)), note);
    let properties = masked.context.properties_text();
    assert!(
        properties.contains(
            "email: \"[EMAIL-1]\"\nfirstname: \"[PERSON-1]\"\nlastname: \"[PERSON-1.2]\"\nphone: \"[PHONE-1]\""
        )
    );
    let counts: Vec<_> = masked.masks.counts().iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(counts, [("email", 2), ("phone", 2), ("card", 1), ("bank_account", 1), ("name", 3)]);
}

#[test]
fn what_is_off_is_not_touched_and_what_is_denied_is_not_there() {
    let context = context(&["Ada: ada@marsh.test"]);
    assert_eq!(Masking::default().mask(&context).context, context);
    let deny = |mask: BTreeSet<MaskKind>| Masking { mask, deny: BTreeSet::from(["lastname".to_owned()]) };
    let shown = deny(BTreeSet::new()).mask(&context).context;
    assert!(!shown.whole().contains("Marsh") && shown.whole().contains("Ada: ada@marsh.test"), "{}", shown.whole());
    assert!(!shown.full_text().contains("Marsh"), "nor is a quotation of it evidence");
    let shown = deny(BTreeSet::from([MaskKind::Names])).mask(&self::context(&["Mrs. Marsh"])).context;
    assert!(shown.whole().contains("Mrs. [PERSON-1"), "a name is known though it is denied: {}", shown.whole());
}

#[test]
fn a_text_that_looks_like_a_placeholder_gets_nothing_put_in_its_place() {
    let note = "Send it to [EMAIL-1], [email-1], [ PERSON - 1.2 ] or [EMAIL-[EMAIL-1]]. From ada@marsh.test";
    let masked = masked(&[note]);
    let shown = text(&masked, 0);
    assert_eq!(shown, "Send it to [LITERAL-1], [LITERAL-2], [LITERAL-3] or [EMAIL-[LITERAL-1]]. From [EMAIL-1]");
    assert_eq!(masked.masks.put_back(shown), note);
    assert_eq!(
        masked.masks.put_back("[EMAIL-7] [PERSON-1.99] [EMAIL-1"),
        "[EMAIL-7] [PERSON-1.99] [EMAIL-1",
        "made up"
    );
    let partly = masked.masks.shown_in("only [PERSON-1] was shown");
    assert_eq!(partly.put_back("[PERSON-1], [EMAIL-1]"), "Ada, [EMAIL-1]", "the model has not read that address");
}

#[test]
fn a_value_of_html_is_masked_as_the_model_reads_it() {
    let properties = [
        ("firstname", "Ada"),
        ("lastname", "Marsh"),
        ("about_html", "<p>&lt;p&gt;a<b>da&#64;mar</b>sh.test &lt;i&gt;A<i>d</i>a</p>"),
    ];
    let context = Arc::new(Context { records: vec![record("contact", 1, &properties)], entries: vec![] });
    let masked = masking(&[]).mask(&context);
    let shown = masked.context.whole();
    assert!(shown.contains(r#"about_html: "<p>[EMAIL-1] <i>[PERSON-1]""#), "{shown}");
}

#[test]
fn a_new_text_changes_no_older_one_and_the_order_of_records_changes_nothing() {
    let old = ["b@x.test and 0171 1234567", "c@x.test, a@x.test"];
    let before = masked(&old);
    let after = masked(&["new@x.test 0172 7654321", old[0], old[1]]);
    assert_eq!((text(&before, 0), text(&before, 1)), (text(&after, 1), text(&after, 2)));
    let others = [
        record("contact > company", 3, &[("contact_name", "Bo Li")]),
        record("contact > company", 2, &[("contact_name", "Cy Ng")]),
    ];
    let of = |others: Vec<&ContextRecord>| {
        let mut context = Context::clone(&context(&["Bo Li and Cy Ng"]));
        context.records.extend(others.into_iter().cloned());
        masking(&[]).mask(&Arc::new(context)).context.entries[0].text.clone()
    };
    assert_eq!(of(vec![&others[0], &others[1]]), of(vec![&others[1], &others[0]]));
}

#[test]
fn more_values_than_there_is_room_for_are_masked_all_the_same() {
    let many: String = (0..12_000).map(|n| format!("a{n}@x.test ")).collect();
    let masked = masked(&[&many]);
    let shown = text(&masked, 0);
    assert!(!shown.contains('@') && shown.contains("[EMAIL-9000]") && shown.ends_with("[EMAIL] "));
    assert_eq!(masked.masks.put_back("[EMAIL]"), "[EMAIL]");
    assert_eq!(masked.masks.counts()[&MaskedKind::Email], 12_001);
}

#[test]
fn long_hostile_texts_are_masked_to_their_end() {
    let units = [
        "a",
        "a@",
        "@",
        "a@b ",
        "1 ",
        "1-",
        "+",
        "0",
        "01 ",
        "4111 ",
        "DE89 ",
        "DE8",
        "[EMAIL-1]",
        "[EMAIL-",
        "Ada ",
        "ada-",
        "Ma",
        "ü",
        "(at)",
        "a (at) b",
        "06.12.34.",
        "1.1.",
        "\u{301}",
        "田",
        "\n",
    ];
    for unit in units {
        let long = format!("{} ada@marsh.test", unit.repeat(300_000 / unit.len()));
        let masked = masked(&[&long]);
        assert!(!text(&masked, 0).contains("ada@marsh"), "{unit}");
    }
}

#[test]
fn values_that_are_put_back_again_and_again_make_no_endless_text() {
    let masked = masked(&[&format!("{}@x.test", "a".repeat(100_000))]);
    let restored = masked.masks.put_back(&"[EMAIL-2]".repeat(10_000));
    assert!(restored.len() < 1_000_000, "{}", restored.len());
}

const LEADS: &str = include_str!("../../../deploy/playbooks/lead-qualification.toml");

fn parse(masking: &str) -> Result<Playbook, String> {
    let text = LEADS.replacen("[prompt]", &format!("[masking]\n{masking}\n\n[prompt]"), 1);
    Playbook::parse("leads.toml", &text, &[]).map_err(|error| error.to_string())
}

#[test]
fn bounds_hold_after_values_are_put_back_and_quotations_stay_as_the_model_wrote_them() {
    let playbook = parse("mask = [\"names\", \"emails\"]").expect("valid");
    let max = playbook.answer.fields.iter().find_map(|field| match field.kind {
        playbook::FieldKind::Text { max_length } if field.name == "summary" => Some(max_length),
        _ => None,
    });
    let max = max.expect("a text");
    let long = format!("{}@marsh.test", "ada".repeat(100));
    let masked = masked(&[&format!("{long} has $50k")]);
    let answer = |summary: &str| {
        serde_json::json!({"lead_score": 85, "summary": summary, "budget_estimate": 50_000,
            "budget_estimate_quote": "[EMAIL-2] has $50k", "qualification_summary": "[PERSON-1] is ready; [EMAIL-9] is not."})
        .to_string()
    };
    let check = |summary: &str| playbook.answer.fields.check_masked(&answer(summary), &masked.masks);
    let checked = check(&format!("{} [EMAIL-2]", "word ".repeat(max / 5 - 4))).expect("it fits as it was written");
    let summary = checked.fields["summary"].as_str().expect("a text");
    assert!(summary.chars().count() <= max && summary.ends_with('…'), "{summary}");
    assert_eq!(checked.fields["qualification_summary"], "Ada is ready; [EMAIL-9] is not.");
    assert_eq!(
        checked.fields["budget_estimate_quote"],
        format!("{long} has $50k"),
        "stored as it was written by people"
    );
    let read = playbook::normalize(&masked.context.full_text());
    assert_eq!(checked.quotations.missing_in(&read), Vec::<String>::new());
    assert!(check(&"word ".repeat(max / 5 + 1)).is_err(), "too long as it was written");
    let placeholders = "[PERSON-1] ".repeat(max / 11 + 1);
    let checked = check(placeholders.trim_end()).expect("it fits with what is put back");
    assert!(checked.fields["summary"].as_str().expect("a text").starts_with("Ada Ada"));
}

#[test]
fn a_masking_that_would_do_nothing_or_is_misspelt_is_refused_with_its_line() {
    for (masking, expected) in [
        ("", "masking: neither `mask` nor `deny`"),
        ("mask = [\"mails\"]", "unknown variant `mails`, expected one of `emails`"),
        ("mask = [\"emails\", \"emails\"]", "masking.mask: `emails` is there twice"),
        ("deny = [\"emial\"]", "masking.deny: `emial` is no property that this playbook reads"),
        ("deny = [\"company\", \"company\"]", "masking.deny: `company` is there twice"),
        ("denied = [\"company\"]", "unknown field `denied`"),
    ] {
        let error = parse(masking).expect_err(masking);
        assert!(error.starts_with("leads.toml:") && error.contains(expected), "{error}");
    }
    let without =
        LEADS.replacen("[prompt]", "[masking]\nmask = [\"names\"]\n[prompt]", 1).replace("\"lastname\", ", "");
    let error = Playbook::parse("leads.toml", &without, &[]).expect_err("the name is not known").to_string();
    assert!(error.contains("`names` needs `lastname`"), "{error}");
}

#[test]
fn no_text_that_leaves_names_a_denied_property() {
    let masking = "deny = [\"jobtitle\"]";
    assert!(parse(masking).is_ok());
    let error = parse("deny = [\"company\"]").expect_err("the channel would hear of it");
    assert!(error.contains("text: `company` is in masking.deny and must not leave"), "{error}");
    for (from, to) in
        [("{{ data }}", "{{ data }} {{ jobtitle }}"), ("{{ data }}", "{{ data }}\n{% if jobtitle %}x{% endif %}")]
    {
        let text = LEADS.replacen("[prompt]", &format!("[masking]\n{masking}\n[prompt]"), 1).replacen(from, to, 1);
        let error = Playbook::parse("leads.toml", &text, &[]).expect_err(to).to_string();
        assert!(error.contains("prompt.user: `jobtitle` is in masking.deny and must not leave"), "{error}");
    }
}

#[test]
fn a_text_that_leaves_shows_no_denied_property_in_a_whole_record_and_one_that_stays_does() {
    let whole = "{{ record }} {{ contact }} {{ contacts }} {{ event }}";
    let channels = LEADS.find("*{{ [record.firstname").expect("the text for the channel");
    let (before, channel) = LEADS.split_at(channels);
    let (_, rest) = channel.split_once("\n\"\"\"").expect("its end");
    let text = format!("{before}{whole}\n\"\"\"{rest}")
        .replacen("{{ answer.qualification_summary }}", whole, 1)
        .replacen("[prompt]", "[masking]\ndeny = [\"jobtitle\", \"company\"]\n\n[prompt]", 1);
    let playbook = Playbook::parse("leads.toml", &text, &[]).expect("valid");
    let properties = [("jobtitle", "Admiral"), ("company", "Marsh"), ("lastname", "Lovelace")];
    let context = Context { records: vec![record("contact", 1, &properties)], entries: Vec::new() };
    let answer = json!({"lead_score": 90, "summary": "A buyer.", "qualification_summary": "Ready."});
    let answer = answer.as_object().expect("an object");
    let event = json!({"type": "contact.propertyChange", "property": "jobtitle", "value": "Captain"});
    let now = LocalTime::new(OffsetDateTime::UNIX_EPOCH, PortalZone::named("UTC").expect("a time zone"));
    let planned = playbook.plan_writes(&event, &context, answer, "gpt", &now, WriteMode::Live).expect("renders");
    let actions: Vec<_> = planned.iter().flat_map(|write| &write.actions).map(|action| &action.spec).collect();
    let [ActionSpec::CreateTask(task), ActionSpec::Notify { text, .. }] = &actions[..] else { panic!("{actions:?}") };
    for value in ["Admiral", "Marsh", "Captain"] {
        assert!(!text.contains(value) && task.body.contains(value), "{value}\n{text}\n{}", task.body);
    }
    assert!(text.contains("Lovelace"), "what is not denied is there: {text}");
}

proptest! {
    #[test]
    fn what_is_masked_is_put_back_and_not_there(
        before in "(?s).{0,40}",
        value in proptest::sample::select(&[
            "ada@marsh.test", "+49 30 1234567", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "Ada Marsh", "Marsh", "ada",
        ][..]),
        between in "(?s)[^\\p{L}\\p{N}]{1,10}",
        after in "(?s)[ .,;:0-9a-z@+\\[\\]()-]{0,60}",
    ) {
        let note = format!("{before} \n{value}\n {between} {value}\n{after}");
        let masked = masked(&[&note]);
        let shown = text(&masked, 0);
        prop_assert_eq!(masked.masks.put_back(shown), note.clone());
        prop_assert!(!shown.contains(value), "{} in {}", value, shown);
        let again = self::masked(&[&note]);
        prop_assert_eq!(text(&again, 0), shown, "the same context, the same placeholders");
    }

    #[test]
    fn every_text_is_put_back(text in "(?s).{0,300}") {
        let masked = masked(&[&text]);
        prop_assert_eq!(masked.masks.put_back(&masked.context.entries[0].text), text);
    }

    #[test]
    fn texts_of_digits_and_signs_are_put_back(text in "[0-9+()./ @a-bA-D\\[\\]EMAIL1-]{0,200}") {
        let masked = masked(&[&text]);
        prop_assert_eq!(masked.masks.put_back(&masked.context.entries[0].text), text);
    }
}
