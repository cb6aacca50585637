//! Contacts with notes, as many as a benchmark wants.

use domain::ObjectType;

use crate::hubspot::portal::{Author, Portal};

/// The first one's id; the others follow.
pub const FIRST_CONTACT: i64 = 1_000_000;

/// Notes on each contact.
const NOTES: [&str; 2] = [
    "<p>Had a first call about their reporting. They run three offices, keep their numbers in spreadsheets and lose two \
     days a month on them. Their head of operations, who was in the call, has looked at two other tools before; both \
     were too slow with their data. She wants to see how ours copes with it and asked for references from her trade.</p>",
    "<p>Wrote the summary and sent the price list. They asked whether support is included and how long an introduction \
     takes. We agreed to speak again when their controller is back from leave; he looks after the contract with their \
     present supplier, which ends in spring.</p>",
];

/// One in twenty is ready to buy: a score that makes a task.
const BUYER: &str = "<p>Spoke to their CEO: they have $50k ready for Q1 and are very excited to start.</p>";
const ONE_IN: usize = 20;

/// Puts `count` contacts there.
pub(crate) fn settle(portal: &mut Portal, count: usize) {
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
        let last = if index % ONE_IN == 0 { BUYER } else { NOTES[1] };
        for note in [NOTES[0], last] {
            portal.add_note(id, note.to_owned());
        }
    }
}
