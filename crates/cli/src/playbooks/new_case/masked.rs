//! What a masked prompt shows, as texts of a case: each placeholder becomes a value of its kind that belongs to nobody, so that a
//! run of the case masks it again.

use playbook::{MaskedKind, Playbook, ShownContext, replace_placeholders};

/// Replaces the placeholders in everything that was shown, if the playbook masks.
pub fn replace_masks(shown: &mut ShownContext, playbook: &Playbook) {
    if playbook.masking.mask.is_empty() {
        return;
    }
    let values = shown.records.iter_mut().flat_map(|record| record.properties.values_mut());
    for text in values.chain(shown.entries.iter_mut().map(|entry| &mut entry.text)) {
        *text = replace_placeholders(text, nobodys);
    }
}

/// A value that belongs to nobody: names that are read as none, the addresses and numbers that are kept for examples, and the
/// card and the account that banks print in their documents.
fn nobodys(kind: MaskedKind, number: usize) -> Option<String> {
    Some(match kind {
        MaskedKind::Email => format!("masked{number}@masked{number}.example"),
        MaskedKind::Phone => format!("+1 202 555 01{:02}", number % 100),
        MaskedKind::Card => "4111 1111 1111 1111".to_owned(),
        MaskedKind::BankAccount => "DE89 3704 0044 0532 0130 00".to_owned(),
        MaskedKind::Name => format!("Masked{number}"),
        MaskedKind::Literal => return None,
    })
}

#[cfg(test)]
mod tests {
    use playbook::replace_placeholders;

    use super::nobodys;

    #[test]
    fn a_placeholder_becomes_a_value_of_its_kind() {
        assert_eq!(
            replace_placeholders("[PERSON-1.2], [PERSON-1] <[EMAIL-3]>, [PHONE-7], [LITERAL-1], [EMAIL]", nobodys),
            "Masked1, Masked1 <masked3@masked3.example>, +1 202 555 0107, [LITERAL-1], [EMAIL]"
        );
    }
}
