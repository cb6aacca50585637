//! The gate of a playbook.

use std::path::Path;

use super::{checker::Checker, tables::GateTable};
use crate::gate::Gate;

/// The gate, if the file has one. Whether the folder is there is not looked at: workers have no cases.
pub(super) fn read(checker: &mut Checker, table: Option<&GateTable>) -> Option<Gate> {
    let GateTable { eval, min_hits } = table?;
    let folder = eval.get_ref();
    if folder.trim().is_empty() || Path::new(folder).is_absolute() {
        let message = format!("gate.eval `{folder}`: name the folder of the cases, from the folder of this file");
        checker.add(eval.span(), message);
    }
    let share = *min_hits.get_ref();
    if !(share > 0.0 && share <= 1.0) {
        checker.add(min_hits.span(), format!("gate.min_hits {share} is not above 0 and at most 1"));
    }
    Some(Gate { eval: folder.clone(), min_hits: share })
}

#[cfg(test)]
mod tests {
    use crate::{Gate, Playbook};

    const LEADS: &str = include_str!("../../../../deploy/playbooks/lead-qualification.toml");

    fn gate(table: &str) -> Result<Option<Gate>, String> {
        let text = format!("{LEADS}\n[gate]\n{table}\n");
        let parsed = Playbook::parse("leads.toml", &text, &[]);
        parsed.map(|playbook| playbook.gate).map_err(|findings| findings.to_string())
    }

    #[test]
    fn a_gate_names_its_cases_and_a_share_of_hits() {
        let expected = |min_hits| Ok(Some(Gate { eval: "cases/leads".to_owned(), min_hits }));
        assert_eq!(gate("eval = \"cases/leads\"\nmin_hits = 0.9"), expected(0.9));
        assert_eq!(gate("eval = \"cases/leads\"\nmin_hits = 1"), expected(1.0));
    }

    #[test]
    fn what_is_wrong_with_a_gate_is_said_with_its_line() {
        let line = LEADS.lines().count() + 3;
        for (table, at, what) in [
            ("eval = \"\"\nmin_hits = 0.9", line, "gate.eval ``: name the folder of the cases"),
            ("eval = \"/cases\"\nmin_hits = 0.9", line, "gate.eval `/cases`: name the folder"),
            ("eval = \"cases\"\nmin_hits = 0", line + 1, "gate.min_hits 0 is not above 0 and at most 1"),
            ("eval = \"cases\"\nmin_hits = 90", line + 1, "gate.min_hits 90 is not above 0 and at most 1"),
            ("eval = \"cases\"\nmin_hits = nan", line + 1, "gate.min_hits NaN is not"),
            ("eval = \"cases\"", line - 1, "missing field `min_hits`"),
            ("eval = \"cases\"\nmin_hits = 0.9\nhits = 1", line + 2, "unknown field `hits`"),
        ] {
            let found = gate(table).expect_err(table);
            assert!(found.starts_with(&format!("leads.toml:{at}: ")) && found.contains(what), "{table}: {found}");
        }
    }

    #[test]
    fn only_a_version_that_writes_by_itself_has_to_pass() {
        let gated = |mode: &str| {
            let text = format!("{mode}\n{LEADS}\n[gate]\neval = \"cases\"\nmin_hits = 1\n");
            Playbook::parse("leads.toml", &text, &[]).expect("a playbook").is_gated()
        };
        assert!(gated("") && gated("canary = 10"));
        assert!(!gated("mode = \"review\"") && !gated("mode = \"shadow\""));
    }
}
