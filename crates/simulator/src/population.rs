//! Contacts with notes that exist from the start, for benchmarks.

use domain::ObjectType;

use crate::hubspot::portal::{Author, Portal};

/// The first contact's id; the others have the ids that follow it.
pub const FIRST_CONTACT: i64 = 1_000_000;

/// The notes on a contact, oldest first.
const NOTES: [&str; 2] = [
    "<p>Had a first call about their reporting. They run three offices, keep their numbers in spreadsheets and lose two \
     days a month on them. Their head of operations, who was in the call, has looked at two other tools before; both \
     were too slow with their data. She wants to see how ours copes with it and asked for references from her trade.</p>",
    "<p>Wrote the summary and sent the price list. They asked whether support is included and how long an introduction \
     takes. We agreed to speak again when their controller is back from leave; he looks after the contract with their \
     present supplier, which ends in spring.</p>",
];

/// The last note of one contact in [`BUYER_EVERY`]: the model scores it high enough for a task.
const BUYER: &str = "<p>Spoke to their CEO: they have $50k ready for Q1 and are very excited to start.</p>";
const BUYER_EVERY: usize = 20;

/// The most notes that a contact has.
pub const MAX_NOTES: usize = NOTES.len();

/// Adds `count` contacts with the newest `notes` of the notes each.
pub(crate) fn add_contacts(portal: &mut Portal, count: usize, notes: usize) {
    for (index, id) in (FIRST_CONTACT..).take(count).enumerate() {
        let properties = [
            ("firstname", "Ada".to_owned()),
            ("lastname", format!("Marsh {index}")),
            ("jobtitle", "Head of operations".to_owned()),
            ("company", format!("Marsh {index} Ltd")),
            ("email", format!("ada.marsh.{index}@example.com")),
        ];
        let properties = properties.map(|(name, value)| (name.to_owned(), value)).into();
        portal.put(&(ObjectType::Contact, id), properties, &Author::person());
        let last = if index % BUYER_EVERY == 0 { BUYER } else { NOTES[1] };
        for note in [NOTES[0], last].into_iter().skip(MAX_NOTES.saturating_sub(notes)) {
            portal.add_note(id, note.to_owned());
        }
    }
}
