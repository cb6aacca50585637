//! The bounds of a playbook's rates, where it has others than the settings.

use std::collections::BTreeMap;

use domain::DriftRate;

use super::{checker::Checker, tables::DriftTable};

pub(super) fn read(checker: &mut Checker, table: &DriftTable) -> BTreeMap<DriftRate, f64> {
    let mut bounds = BTreeMap::new();
    for kind in DriftRate::ALL.iter().copied() {
        let percent = match kind {
            DriftRate::Overridden => &table.max_overridden_percent,
            DriftRate::Refused => &table.max_refused_percent,
            DriftRate::Unverified => &table.max_unverified_percent,
            DriftRate::Parked => &table.max_parked_percent,
        };
        let Some(percent) = percent else { continue };
        if !(0.0..=100.0).contains(percent.get_ref()) {
            let message = format!("drift.max_{kind}_percent = {} is not within 0–100", percent.get_ref());
            checker.add(percent.span(), message);
        }
        bounds.insert(kind, *percent.get_ref());
    }
    bounds
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::DriftRate;

    use crate::Playbook;

    const LEADS: &str = include_str!("../../../../deploy/playbooks/lead-qualification.toml");

    fn drift(table: &str) -> Result<BTreeMap<DriftRate, f64>, String> {
        let text = format!("{LEADS}\n[drift]\n{table}\n");
        let parsed = Playbook::parse("leads.toml", &text, &[]);
        parsed.map(|playbook| playbook.drift).map_err(|findings| findings.to_string())
    }

    #[test]
    fn a_playbook_may_have_bounds_of_its_own() {
        let bounds = drift("max_overridden_percent = 50\nmax_parked_percent = 2.5");
        assert_eq!(bounds, Ok(BTreeMap::from([(DriftRate::Overridden, 50.0), (DriftRate::Parked, 2.5)])));
        assert_eq!(drift(""), Ok(BTreeMap::new()));
    }

    #[test]
    fn what_is_wrong_with_a_bound_is_said_with_its_line() {
        let line = LEADS.lines().count() + 3;
        for (table, what) in [
            ("max_refused_percent = 101", "drift.max_refused_percent = 101 is not within 0–100"),
            ("max_refused_percent = nan", "drift.max_refused_percent = NaN is not within"),
            ("max_rejected_percent = 10", "unknown field `max_rejected_percent`"),
        ] {
            let found = drift(table).expect_err(table);
            assert!(found.starts_with(&format!("leads.toml:{line}: ")) && found.contains(what), "{table}: {found}");
        }
    }
}
