//! What the page of a proposal looks like. It has to be read on a phone, runs no script and loads nothing. What it shows was written by
//! strangers: all of it is escaped.

use std::fmt::Write;

use domain::write_command::ActionSpec;
use ledger::{ChangedValue, ProposalEntry, ProposedAction, ProposedProperty};
use time::{OffsetDateTime, macros::format_description};

/// The longest name and reason that the form takes, in characters.
pub const MAX_NAME: usize = 100;
pub const MAX_WHY: usize = 1_000;

const STYLE: &str = "\
*{box-sizing:border-box}\
body{font:1rem/1.5 system-ui,sans-serif;color:#1d2733;background:#f3f5f7;margin:0}\
main{max-width:40rem;margin:0 auto;padding:1rem}\
h1{font-size:1.4rem;margin:.2rem 0 0}\
h2{font-size:.9rem;font-weight:600;color:#56616e;margin:0}\
.from,.by{color:#56616e;font-size:.9rem;margin:0}\
section,form{background:#fff;border:1px solid #d9dee4;border-radius:.5rem;padding:.8rem 1rem;margin:.8rem 0}\
p{margin:.3rem 0}\
.text,.values,blockquote{white-space:pre-wrap;overflow-wrap:anywhere}\
.values{font-size:1.1rem}\
del{text-decoration:none;color:#56616e}\
ins{text-decoration:none;font-weight:600}\
blockquote{margin:.4rem 0 0;padding-left:.7rem;border-left:3px solid #b9c2cc;color:#3b4652;font-style:italic}\
.notice{background:#fff4d6;border:1px solid #e3c464;border-radius:.5rem;padding:.6rem 1rem}\
label{display:block;font-size:.9rem;color:#56616e;margin-bottom:.6rem}\
input{display:block;width:100%;font:inherit;color:inherit;padding:.5rem;border:1px solid #b9c2cc;border-radius:.3rem}\
.buttons{display:flex;gap:.8rem}\
button{flex:1;font:inherit;font-weight:600;padding:.7rem;border-radius:.3rem;border:1px solid #0b6b3a;background:#0b6b3a;color:#fff}\
button[value=reject]{background:#fff;color:#a12622;border-color:#a12622}";

/// A whole page with this content.
pub fn page(content: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Leadline: a proposal</title><style>{STYLE}</style><main>{content}</main></html>"
    )
}

/// What would be written, and the two buttons. The form goes to the page's own address, with the signature in it.
pub fn form(proposal: &ProposalEntry, changed: &[ChangedValue]) -> String {
    let ProposalEntry { record, playbook, model, .. } = proposal;
    let mut page = format!(
        "<p class=\"from\">Leadline proposes for</p><h1>{}</h1><p class=\"by\">{} ({}), proposed {}{}</p>",
        text(&record.to_string()),
        text(playbook),
        text(model),
        moment(proposal.proposed_at),
        proposal.expires_at.map(|at| format!(", until {}", moment(at))).unwrap_or_default(),
    );
    if proposal.is_changed {
        page += "<div class=\"notice\"><b>Somebody has changed a value since this was approved.</b>";
        for ChangedValue { property, seen, now } in changed {
            let (property, seen, now) = (text(property), value(seen.as_deref()), value(now.as_deref()));
            let _ = write!(page, "<p class=\"text\">{property} was {seen} then, and is {now} now.</p>");
        }
        page += "</div>";
    }
    proposal.properties.iter().for_each(|property| add_property(&mut page, property));
    proposal.actions.iter().for_each(|action| add_action(&mut page, action));
    // Only a rejection needs a reason.
    let _ = write!(
        page,
        "<form method=\"post\"><label>Your name <input name=\"by\" maxlength=\"{MAX_NAME}\" autocomplete=\"name\"></label>\
         <label>Why not, if you reject it <input name=\"why\" maxlength=\"{MAX_WHY}\" required></label>\
         <div class=\"buttons\"><button name=\"decision\" value=\"approve\" formnovalidate>Approve</button>\
         <button name=\"decision\" value=\"reject\">Reject</button></div></form>"
    );
    page
}

fn add_property(page: &mut String, property: &ProposedProperty) {
    let (name, before, after) = (text(&property.property), value(property.before.as_deref()), text(property.after()));
    let _ = write!(page, "<section><h2>{name}</h2><p class=\"values\"><del>{before}</del> → <ins>{after}</ins></p>");
    if let Some(quotation) = &property.quotation {
        let _ = write!(page, "<blockquote>“{}”</blockquote>", text(quotation));
    }
    *page += "</section>";
}

fn add_action(page: &mut String, action: &ProposedAction) {
    let (title, what) = match &action.spec {
        ActionSpec::CreateTask(task) => ("Task".to_owned(), format!("{}\n{}", task.subject, task.body)),
        ActionSpec::CreateNote { body, .. } => ("Note".to_owned(), body.clone()),
        ActionSpec::MoveDeal(stage) => ("Move of the deal".to_owned(), format!("to {}", stage.stage)),
        ActionSpec::Notify { channel, text } => (format!("Message to {channel}"), text.clone()),
        // Undos alone do that, which nobody reviews.
        ActionSpec::DeleteEngagement { .. } | ActionSpec::MoveDealBack { .. } => return,
    };
    let _ = write!(page, "<section><h2>{}</h2><p class=\"text\">{}</p></section>", text(&title), text(what.trim_end()));
}

fn value(value: Option<&str>) -> String {
    value.map_or_else(|| "empty".to_owned(), text)
}

fn moment(at: OffsetDateTime) -> String {
    at.format(format_description!("[year]-[month]-[day] [hour]:[minute] UTC")).unwrap_or_default()
}

/// A text as HTML shows it.
fn text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => shown += "&amp;",
            '<' => shown += "&lt;",
            '>' => shown += "&gt;",
            '"' => shown += "&quot;",
            '\'' => shown += "&#39;",
            other => shown.push(other),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use domain::{
        ObjectId, ObjectType, PortalId, RecordRef, WriteCommandId,
        review::ReviewTerms,
        write_command::{Task, TaskPriority, TaskType},
    };
    use time::macros::datetime;

    use super::*;

    fn property(name: &str, before: Option<&str>, proposed: &str, quotation: Option<&str>) -> ProposedProperty {
        ProposedProperty {
            property: name.to_owned(),
            before: before.map(ToOwned::to_owned),
            proposed: proposed.to_owned(),
            edited: None,
            quotation: quotation.map(ToOwned::to_owned),
        }
    }

    fn proposal() -> ProposalEntry {
        let task = Task {
            subject: "Call the buyer".to_owned(),
            body: "There is a budget, and a demo is wanted.".to_owned(),
            priority: TaskPriority::High,
            task_type: TaskType::Call,
            owner: None,
            due: datetime!(2026-11-27 09:12 UTC),
            associations: vec![],
        };
        ProposalEntry {
            id: WriteCommandId::new(),
            attempt: 1,
            record: RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(1018) },
            event_key: "k".to_owned(),
            playbook: "lead-qualification".to_owned(),
            playbook_version: "decbc69cd9d1".to_owned(),
            model: "gpt-4o-2024-08-06".to_owned(),
            cost_micro_dollars: Some(1_248),
            is_changed: false,
            proposed_at: datetime!(2026-11-26 09:12 UTC),
            expires_at: Some(datetime!(2026-12-03 09:12 UTC)),
            properties: vec![
                property("ai_budget_estimate", None, "50000", Some("They have $50k ready for Q1")),
                property("lead_score", Some("42"), "85", None),
                property(
                    "ai_lead_summary",
                    Some("Asked for a brochure."),
                    "A buyer who wants to start in January.",
                    None,
                ),
            ],
            actions: vec![ProposedAction { name: "call".to_owned(), spec: ActionSpec::CreateTask(task) }],
            terms: ReviewTerms::default(),
        }
    }

    #[test]
    fn each_value_is_shown_before_and_after_with_its_quotation_and_what_changed_since_is_said() {
        let shown = form(&proposal(), &[]);
        for part in [
            "<h1>contact/1018</h1>",
            "<h2>ai_budget_estimate</h2><p class=\"values\"><del>empty</del> → <ins>50000</ins>",
            "<blockquote>“They have $50k ready for Q1”</blockquote>",
            "<del>42</del> → <ins>85</ins>",
            "until 2026-12-03 09:12 UTC",
            "Call the buyer",
            "value=\"approve\" formnovalidate",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(!shown.contains("notice"));
        let seen = ChangedValue { property: "lead_score".to_owned(), seen: Some("40".to_owned()), now: None };
        let again = form(&ProposalEntry { is_changed: true, ..proposal() }, &[seen]);
        assert!(again.contains("lead_score was 40 then, and is empty now."), "{again}");
    }

    #[test]
    fn nothing_that_strangers_wrote_is_markup() {
        let strange = "<b>\"x\" & 'y'</b>";
        let mut proposal = proposal();
        proposal.properties = vec![property(strange, Some(strange), strange, Some(strange))];
        let shown = page(&form(&proposal, &[]));
        assert!(
            !shown.contains("<b>") && shown.contains("&lt;b&gt;&quot;x&quot; &amp; &#39;y&#39;&lt;/b&gt;"),
            "{shown}"
        );
    }
}
