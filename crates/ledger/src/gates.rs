//! May this version of a playbook run? Recorded evaluations, and what the workers make of them.

use domain::{GateState, inference::Effort};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Ledger, LedgerError, Worker, column::Column, stored_detail};

const EFFORT: Column = Column::new("evaluation", "effort");
const STATE: Column = Column::new("playbook_gate", "state");

/// A version of a playbook, and how its model is asked: what an evaluation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedVersion {
    /// The playbook's name.
    pub playbook: String,
    /// The hash of its file.
    pub version: String,
    /// The model's name in the request.
    pub model: String,
    /// The effort that is asked for; [`Effort::None`] of a model that does not reason.
    pub effort: Effort,
}

/// How a model did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluationScore {
    /// How many cases there are.
    pub cases: i32,
    /// How many answers were judged: one for each case and repetition.
    pub answers: i32,
    /// How many of them meet every expectation of their case.
    pub hits: i32,
    /// Whether these are enough for the gate.
    pub passed: bool,
}

/// A run that is to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// What was asked.
    pub asked: AskedVersion,
    /// How it did.
    pub score: EvaluationScore,
    /// Who records it.
    pub recorded_by: String,
    /// The playbook file.
    pub file_text: String,
    /// The result in all detail.
    pub report: Value,
}

/// A version that has passed its gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedVersion {
    /// Which, and how it was asked.
    pub asked: AskedVersion,
    /// The playbook file.
    pub file_text: String,
    /// How many answers were judged.
    pub answers: i32,
    /// How many of them meet every expectation of their case.
    pub hits: i32,
    /// When it was recorded.
    pub at: OffsetDateTime,
}

/// What a worker makes of the gate of a playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateNote {
    /// The version in its file.
    pub wanted: AskedVersion,
    /// What the gate lets it run.
    pub state: GateState,
    /// The version that it runs.
    pub runs_version: Option<String>,
    /// Why it is not the one in the file.
    pub detail: Option<String>,
}

/// What the workers make of the gate of a playbook, with the one who said so last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateEntry {
    /// What it is.
    pub note: GateNote,
    /// Who said so.
    pub worker: String,
    /// When.
    pub at: OffsetDateTime,
}

impl Ledger {
    /// Records a run. One that is recorded again is another row.
    pub async fn record_evaluation(&self, evaluation: &Evaluation) -> Result<(), LedgerError> {
        let Evaluation { asked, score, recorded_by, file_text, report } = evaluation;
        sqlx::query!(
            "insert into evaluation (id, recorded_by, playbook, version, model, effort, cases, answers, hits, passed,
                                     file_text, report)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            Uuid::now_v7(),
            recorded_by,
            asked.playbook,
            asked.version,
            asked.model,
            asked.effort.as_str(),
            score.cases,
            score.answers,
            score.hits,
            score.passed,
            file_text,
            report,
        )
        .execute(&self.connections)
        .await?;
        Ok(())
    }

    /// Whether exactly this has passed.
    pub async fn has_passed(&self, asked: &AskedVersion) -> Result<bool, LedgerError> {
        let passed = sqlx::query_scalar!(
            r#"select exists (select from evaluation
                              where passed and (playbook, version, model, effort) = ($1, $2, $3, $4)) as "passed!""#,
            asked.playbook,
            asked.version,
            asked.model,
            asked.effort.as_str(),
        )
        .fetch_one(&self.connections)
        .await?;
        Ok(passed)
    }

    /// The version of a playbook of which the newest report that passes is.
    pub async fn last_passed(&self, playbook: &str) -> Result<Option<PassedVersion>, LedgerError> {
        let row = sqlx::query!(
            "select version, model, effort, file_text, answers, hits, at from evaluation
             where passed and playbook = $1 order by at desc, id desc limit 1",
            playbook,
        )
        .fetch_optional(&self.connections)
        .await?;
        let passed = row.map(|row| {
            let effort = EFFORT.read(&row.effort, Effort::parse)?;
            let asked = AskedVersion { playbook: playbook.to_owned(), version: row.version, model: row.model, effort };
            Ok(PassedVersion { asked, file_text: row.file_text, answers: row.answers, hits: row.hits, at: row.at })
        });
        passed.transpose()
    }

    /// Notes what this worker makes of a gate.
    pub async fn note_gate(&self, note: &GateNote, worker: &Worker) -> Result<(), LedgerError> {
        let GateNote { wanted, state, runs_version, detail } = note;
        sqlx::query!(
            "insert into playbook_gate (playbook, state, version, model, effort, runs_version, detail, worker)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (playbook) do update
             set state = excluded.state, version = excluded.version, model = excluded.model, effort = excluded.effort,
                 runs_version = excluded.runs_version, detail = excluded.detail, worker = excluded.worker,
                 at = clock_timestamp()",
            wanted.playbook,
            state.as_str(),
            wanted.version,
            wanted.model,
            wanted.effort.as_str(),
            runs_version.as_deref(),
            detail.as_deref().map(stored_detail),
            worker.0,
        )
        .execute(&self.connections)
        .await?;
        Ok(())
    }

    /// What workers have said about gates in the last two minutes, by playbook: what is older is of none that runs.
    pub async fn gates(&self) -> Result<Vec<GateEntry>, LedgerError> {
        let rows = sqlx::query!(
            "select playbook, state, version, model, effort, runs_version, detail, worker, at from playbook_gate
             where at > clock_timestamp() - interval '2 minutes' order by playbook",
        )
        .fetch_all(&self.connections)
        .await?;
        let entries = rows.into_iter().map(|row| {
            let effort = EFFORT.read(&row.effort, Effort::parse)?;
            let wanted = AskedVersion { playbook: row.playbook, version: row.version, model: row.model, effort };
            let state = STATE.read(&row.state, GateState::parse)?;
            let note = GateNote { wanted, state, runs_version: row.runs_version, detail: row.detail };
            Ok(GateEntry { note, worker: row.worker, at: row.at })
        });
        entries.collect()
    }
}
