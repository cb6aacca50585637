//! `leadline playbook check`: prints what a playbook does.

use domain::{event::EventKind, review::WriteMode, write_command::DealStage};
use playbook::{ActionTemplate, InferenceMetadata, Masking, Playbook, WindowStrategy, WriteValue};
use serde_json::Value;
use settings::Settings;

use crate::print::{self, say};

/// Prints what a playbook subscribes to, reads, asks, writes and does. `settings` name the model, if the playbook does not.
pub fn print(playbook: &Playbook, settings: &Settings) {
    say!("{}@{}  {}", playbook.name, playbook.version, playbook.description);
    print::blank();
    print_selection(playbook);
    print::blank();
    print_reads(playbook);
    print::blank();
    print_question(playbook, settings);
    print::blank();
    if !playbook.masking.is_off() {
        print_masking(playbook);
        print::blank();
    }
    print_writes(playbook);
    if !playbook.effects.actions.is_empty() {
        print::blank();
        print_actions(playbook);
    }
    print::blank();
}

fn print_selection(playbook: &Playbook) {
    say!("  subscribes to");
    for trigger in &playbook.selection.triggers {
        let kind = &trigger.object_type;
        let object = kind.subscription_object();
        let details = match trigger.kind {
            EventKind::PropertyChange => format!("  {}", trigger.properties.join(", ")),
            _ => String::new(),
        };
        let when = trigger.when.as_ref().map(|when| format!("  when {}", when.source)).unwrap_or_default();
        say!("    {object}.{}  {} ({kind}){details}{when}", trigger.kind, kind.type_id());
    }
    for guard in &playbook.selection.guards {
        say!("    not when {}  ({})", guard.when.source, guard.name);
    }
}

fn print_reads(playbook: &Playbook) {
    say!("  reads");
    for read in &playbook.context.reads {
        say!("    {}  (at most {})", read.path, if read.path.parent().is_none() { 1 } else { read.max_records });
        for (what, names) in [("properties", &read.properties), ("texts", &read.texts)] {
            if !names.is_empty() {
                say!("      {what}: {}", names.join(", "));
            }
        }
        if !read.engagements.is_empty() {
            let kinds: Vec<_> = read.engagements.iter().map(domain::ObjectType::path).collect();
            say!("      the newest {} of {}", read.newest, kinds.join(", "));
        }
    }
}

fn print_question(playbook: &Playbook, settings: &Settings) {
    let model = playbook.model.name.as_ref().unwrap_or(&settings.openai.model);
    let window = match playbook.context.window {
        WindowStrategy::Newest => "the newest first, the rest is left out",
        WindowStrategy::MapReduce => "a longer one is summarised in parts",
    };
    let fallback = &playbook.model.fallback;
    let or = if fallback.is_empty() { String::new() } else { format!(" (while it is away {})", fallback.join(", ")) };
    say!("  asks {model}{or} with at most {} tokens of context ({window}) for", playbook.context.max_tokens);
    let schema = serde_json::from_str::<Value>(playbook.answer.fields.strict_schema().get()).unwrap_or_default();
    format!("{schema:#}").lines().for_each(|line| say!("    {line}"));
    if let Some(gate) = &playbook.gate {
        say!("  runs when {} of the answers about the cases in {} are as expected", gate.min_hits, gate.eval);
    }
}

fn print_masking(playbook: &Playbook) {
    say!("  keeps from the model");
    let Masking { mask, deny } = &playbook.masking;
    if !mask.is_empty() {
        let kinds: Vec<_> = mask.iter().map(|kind| kind.as_str()).collect();
        say!("    masks {}", kinds.join(", "));
    }
    if !deny.is_empty() {
        say!("    does not show {}", deny.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
    }
}

fn print_writes(playbook: &Playbook) {
    say!("  writes");
    for write in &playbook.effects.writes {
        let from = match &write.value {
            WriteValue::Field(name) => format!("field {name}"),
            WriteValue::Text(_) => "a text".to_owned(),
            WriteValue::Explanation { property, .. } => format!("where the value of {property} comes from"),
            WriteValue::Metadata(InferenceMetadata::ProcessedAt) => "the time of processing".to_owned(),
            WriteValue::Metadata(InferenceMetadata::Model) => "the model's name".to_owned(),
            WriteValue::Metadata(InferenceMetadata::Playbook) => "the playbook's name and version".to_owned(),
        };
        let to: Vec<_> = write.to.iter().map(|path| format!("{path}.{}", write.property)).collect();
        say!("    {} ← {from}  ({}){}", to.join(", "), write.policy.as_str(), held(playbook, write.mode));
    }
}

fn print_actions(playbook: &Playbook) {
    say!("  does");
    for action in &playbook.effects.actions {
        let on: Vec<_> = action.on.iter().map(ToString::to_string).collect();
        let what = match &action.spec {
            ActionTemplate::MoveDeal(DealStage { stage, .. }) => format!(" to {stage}"),
            ActionTemplate::Notify { channel, .. } => format!(" {channel}"),
            ActionTemplate::CreateTask { .. } | ActionTemplate::CreateNote { .. } => String::new(),
        };
        let each = action.for_each.as_ref().map(|list| format!(", for each of at most {} {list}", action.max_items));
        let when = action.when.as_ref().map(|when| format!(", when {}", when.source));
        say!(
            "    {}: {}{what} on {}{}{}{}",
            action.name,
            action.spec.kind(),
            on.join(", "),
            each.unwrap_or_default(),
            when.unwrap_or_default(),
            held(playbook, action.mode)
        );
    }
}

/// What keeps a write or an action with this mode of its own from being carried out at once.
fn held(playbook: &Playbook, own: WriteMode) -> String {
    let mode = match playbook.review.mode.max(own) {
        WriteMode::Live => String::new(),
        WriteMode::Review => "  proposed first".to_owned(),
        WriteMode::Shadow => "  in shadow".to_owned(),
    };
    let canary =
        playbook.review.canary.map(|percent| format!("  for {percent} % of the records, in shadow for the others"));
    mode + &canary.unwrap_or_default()
}
