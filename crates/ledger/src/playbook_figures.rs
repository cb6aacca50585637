//! How good is a playbook? What its versions answered, what came of it, and what people made of that.

use std::collections::HashMap;

use domain::{DriftRate, Rate, Reason};
use time::OffsetDateTime;

use crate::{Ledger, LedgerError, column::Column};

const SKIPPED_WRITE_REASON: Column = Column::new("skipped_write", "reason");

/// The figures of one version of a playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaybookFigures {
    /// The version, a hash of the playbook's file.
    pub version: String,
    /// The snapshot that answered; `None` in the figures of all models together.
    pub model: Option<String>,
    /// When the first and the last answer were stored.
    pub answers_from: (OffsetDateTime, OffsetDateTime),
    /// What the answers were like.
    pub answers: AnswerCounts,
    /// What came of them.
    pub effects: EffectCounts,
    /// What all questions cost in 10⁻⁶ $, those about parts, too; `None` for a model without a known price.
    pub cost_micro_dollars: Option<i64>,
    /// Half of the valid answers, and 95 of 100, took at most so many milliseconds.
    pub latency_ms: Option<(i64, i64)>,
}

/// Questions about whole contexts, by what was answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerCounts {
    /// All that were answered in any way.
    pub asked: i64,
    /// Answers that can be used.
    pub valid: i64,
    /// Answers with a quotation that was not found.
    pub unverified: i64,
    /// Questions that the model declined.
    pub refused: i64,
    /// Answers that were truncated, filtered, empty, or did not fit.
    pub unusable: i64,
    /// Answers whose event or write command is parked now.
    pub parked: i64,
}

/// What came of valid answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EffectCounts {
    /// Answers that HubSpot has.
    pub written: i64,
    /// Answers of which a person changed a written value, and did not change it back.
    pub overridden: i64,
    /// Values that were left as they were, by reason, the most frequent first.
    pub kept: Vec<(Reason, i64)>,
    /// Proposals that a person approved, approved with other values, and rejected.
    pub reviewed: ReviewCounts,
}

/// What people decided about proposals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReviewCounts {
    /// As they were.
    pub approved: i64,
    /// With other values.
    pub edited: i64,
    /// Not at all.
    pub rejected: i64,
}

impl PlaybookFigures {
    /// Written answers of which a person changed a value.
    pub fn overridden(&self) -> Rate {
        Rate::of(self.effects.overridden, self.effects.written.max(self.effects.overridden))
    }

    /// Answers with a quotation that was not found.
    pub fn unverified(&self) -> Rate {
        Rate::of(self.answers.unverified, self.answers.asked)
    }

    /// Questions that the model declined.
    pub fn refused(&self) -> Rate {
        Rate::of(self.answers.refused, self.answers.asked)
    }

    /// Answers that were truncated, filtered, empty, or did not fit.
    pub fn unusable(&self) -> Rate {
        Rate::of(self.answers.unusable, self.answers.asked)
    }

    /// Answers whose event or write command is parked.
    pub fn parked(&self) -> Rate {
        Rate::of(self.answers.parked, self.answers.asked)
    }

    /// A rate that has a bound.
    pub fn rate(&self, which: DriftRate) -> Rate {
        match which {
            DriftRate::Overridden => self.overridden(),
            DriftRate::Refused => self.refused(),
            DriftRate::Unverified => self.unverified(),
            DriftRate::Parked => self.parked(),
        }
    }

    /// Decided proposals that were rejected.
    pub fn rejected(&self) -> Rate {
        let ReviewCounts { approved, edited, rejected } = self.effects.reviewed;
        Rate::of(rejected, approved + edited + rejected)
    }

    /// Decided proposals that were approved with other values.
    pub fn edited(&self) -> Rate {
        let ReviewCounts { approved, edited, rejected } = self.effects.reviewed;
        Rate::of(edited, approved + edited + rejected)
    }

    /// What one question cost on average.
    pub fn cost_per_question(&self) -> Option<i64> {
        self.cost_micro_dollars?.checked_div(self.answers.asked)
    }
}

/// What became of one property in a sample of answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyFigures {
    /// The property.
    pub property: String,
    /// How often it was written.
    pub written: i64,
    /// How often it was left as it was.
    pub kept: i64,
    /// How often a person changed what was written.
    pub overridden: i64,
}

/// How often a field of the answers of a sample had a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldValue {
    /// The field.
    pub field: String,
    /// The value as text; `None` for null.
    pub value: Option<String>,
    /// How often.
    pub answers: i64,
}

/// A figure's place: its version, and its model or all of them.
type Place = (String, Option<String>);

impl Ledger {
    /// The figures of each version and model of a playbook since a time, and of each version with all of its models. The newest
    /// version, by its first answer, comes first, and its models after all of them together.
    ///
    /// It costs an index scan over the playbook's answers since then.
    pub async fn playbook_figures(
        &self,
        playbook: &str,
        since: OffsetDateTime,
    ) -> Result<Vec<PlaybookFigures>, LedgerError> {
        let mut kept = self.kept_by_reason(playbook, since).await?;
        let mut reviewed = self.reviewed_proposals(playbook, since).await?;
        let mut all = self.drift_figures(playbook, since).await?;
        for figures in &mut all {
            let place = (figures.version.clone(), figures.model.clone());
            figures.effects.kept = kept.remove(&place).unwrap_or_default();
            figures.effects.reviewed = reviewed.remove(&place).unwrap_or_default();
        }
        Ok(all)
    }

    /// The same figures, but nothing of the values that were left as they were, and of what people decided: no rate that has a bound
    /// needs these.
    pub async fn drift_figures(
        &self,
        playbook: &str,
        since: OffsetDateTime,
    ) -> Result<Vec<PlaybookFigures>, LedgerError> {
        let mut overridden = self.overridden_answers(playbook, since).await?;
        let rows = sqlx::query!(
            r#"select i.playbook_version as "version!", i.model as "model?",
                      min(i.created_at) as "first!", max(i.created_at) as "last!",
                      count(*) filter (where i.part is null) as "asked!",
                      count(*) filter (where i.part is null and i.outcome = 'valid') as "valid!",
                      count(*) filter (where i.part is null and (i.outcome = 'unverified' or i.unverified <> '{}')) as "unverified!",
                      count(*) filter (where i.outcome = 'refused') as "refused!",
                      count(*) filter (where i.part is null and i.outcome not in ('valid', 'unverified', 'refused')) as "unusable!",
                      count(*) filter (where c.is_parked or i.part is null
                                         and i.event_id in (select e.id from event e where e.state = 'parked')) as "parked!",
                      count(*) filter (where c.is_written) as "written!",
                      sum(i.cost_micro_dollars)::bigint as cost,
                      percentile_disc(array[0.5, 0.95]) within group (order by i.latency_ms)
                          filter (where i.part is null and i.outcome = 'valid') as latency
               from inference i
               left join lateral (select bool_or(c.state = 'written') as is_written, bool_or(c.state = 'parked') as is_parked
                                  from write_command c where c.inference_id = i.id and c.undo_id is null) as c on true
               where i.playbook = $1 and i.created_at >= $2
               group by grouping sets ((i.playbook_version), (i.playbook_version, i.model))
               order by min(min(i.created_at)) over (partition by i.playbook_version) desc, i.playbook_version,
                        i.model nulls first"#,
            playbook,
            since
        )
        .fetch_all(&self.maintenance)
        .await?;
        let figures = rows.into_iter().map(|row| {
            let place = (row.version.clone(), row.model.clone());
            PlaybookFigures {
                version: row.version,
                model: row.model,
                answers_from: (row.first, row.last),
                answers: AnswerCounts {
                    asked: row.asked,
                    valid: row.valid,
                    unverified: row.unverified,
                    refused: row.refused,
                    unusable: row.unusable,
                    parked: row.parked,
                },
                effects: EffectCounts {
                    written: row.written,
                    overridden: overridden.remove(&place).unwrap_or_default(),
                    ..EffectCounts::default()
                },
                cost_micro_dollars: row.cost,
                latency_ms: row.latency.and_then(|latency| Some((*latency.first()?, *latency.get(1)?))),
            }
        });
        Ok(figures.collect())
    }

    async fn overridden_answers(
        &self,
        playbook: &str,
        since: OffsetDateTime,
    ) -> Result<HashMap<Place, i64>, LedgerError> {
        let rows = sqlx::query!(
            r#"select i.playbook_version as "version!", i.model as "model?", count(distinct i.id) as "answers!"
               from correction o
               join write_command c on c.id = o.write_command_id
               join inference i on i.id = c.inference_id
               where o.seen_at >= $2 and o.taken_back_at is null and i.playbook = $1 and i.created_at >= $2
               group by grouping sets ((i.playbook_version), (i.playbook_version, i.model))"#,
            playbook,
            since
        )
        .fetch_all(&self.maintenance)
        .await?;
        Ok(rows.into_iter().map(|row| ((row.version, row.model), row.answers)).collect())
    }

    /// What people decided about proposals. Those that a rule approved are not theirs.
    async fn reviewed_proposals(
        &self,
        playbook: &str,
        since: OffsetDateTime,
    ) -> Result<HashMap<Place, ReviewCounts>, LedgerError> {
        let rows = sqlx::query!(
            r#"select i.playbook_version as "version!", i.model as "model?",
                      count(*) filter (where r.decision = 'approved') as "approved!",
                      count(*) filter (where r.decision = 'edited') as "edited!",
                      count(*) filter (where r.decision = 'rejected') as "rejected!"
               from inference i
               join write_command c on c.inference_id = i.id
               join review r on r.write_command_id = c.id
               where i.playbook = $1 and i.created_at >= $2
               group by grouping sets ((i.playbook_version), (i.playbook_version, i.model))"#,
            playbook,
            since
        )
        .fetch_all(&self.maintenance)
        .await?;
        let counts = rows.into_iter().map(|row| {
            let counts = ReviewCounts { approved: row.approved, edited: row.edited, rejected: row.rejected };
            ((row.version, row.model), counts)
        });
        Ok(counts.collect())
    }

    async fn kept_by_reason(
        &self,
        playbook: &str,
        since: OffsetDateTime,
    ) -> Result<HashMap<Place, Vec<(Reason, i64)>>, LedgerError> {
        let rows = sqlx::query!(
            r#"select i.playbook_version as "version!", i.model as "model?", s.reason, count(*) as "values!"
               from inference i
               join write_command c on c.inference_id = i.id and c.undo_id is null
               join skipped_write s on s.write_command_id = c.id
               where i.playbook = $1 and i.created_at >= $2
               group by grouping sets ((i.playbook_version, s.reason), (i.playbook_version, i.model, s.reason))
               order by count(*) desc, s.reason"#,
            playbook,
            since
        )
        .fetch_all(&self.maintenance)
        .await?;
        let mut kept: HashMap<_, Vec<_>> = HashMap::new();
        for row in rows {
            let reason = SKIPPED_WRITE_REASON.read(&row.reason, Reason::parse)?;
            kept.entry((row.version, row.model)).or_default().push((reason, row.values));
        }
        Ok(kept)
    }

    /// What became of each property in the newest `sample` answers of a version.
    pub async fn property_figures(
        &self,
        (playbook, version): (&str, &str),
        since: OffsetDateTime,
        sample: i64,
    ) -> Result<Vec<PropertyFigures>, LedgerError> {
        Ok(sqlx::query_as!(
            PropertyFigures,
            r#"with command as (
                   select c.id from write_command c
                   where c.undo_id is null and c.inference_id in (select i.id from inference i
                                            where i.playbook = $1 and i.playbook_version = $2 and i.created_at >= $3
                                              and i.outcome = 'valid' and i.part is null
                                            order by i.created_at desc limit $4)
               ), written as (
                   select w.property, count(*) as written,
                          count(*) filter (where exists (select from correction o
                                                         where (o.write_command_id, o.property) = (w.write_command_id, w.property)
                                                           and o.taken_back_at is null)) as overridden
                   from command c join write w on w.write_command_id = c.id group by w.property
               ), kept as (
                   select s.property, count(*) as kept
                   from command c join skipped_write s on s.write_command_id = c.id group by s.property
               )
               select property as "property!", coalesce(written.written, 0) as "written!", coalesce(kept.kept, 0) as "kept!",
                      coalesce(written.overridden, 0) as "overridden!"
               from written full join kept using (property)
               order by 4 desc, 2 desc, 1"#,
            playbook,
            version,
            since,
            sample
        )
        .fetch_all(&self.maintenance)
        .await?)
    }

    /// The values of these fields in the newest `sample` answers of a version, with how often each was answered.
    pub async fn field_values(
        &self,
        (playbook, version): (&str, &str),
        since: OffsetDateTime,
        sample: i64,
        fields: &[String],
    ) -> Result<Vec<FieldValue>, LedgerError> {
        Ok(sqlx::query_as!(
            FieldValue,
            r#"select f.key as "field!", f.value #>> '{}' as value, count(*) as "answers!"
               from (select i.fields from inference i
                     where i.playbook = $1 and i.playbook_version = $2 and i.created_at >= $3
                       and i.outcome = 'valid' and i.part is null and jsonb_typeof(i.fields) = 'object'
                     order by i.created_at desc limit $4) as answer,
                    lateral jsonb_each(answer.fields) as f
               where f.key = any($5)
               group by 1, 2 order by 1, 3 desc, 2"#,
            playbook,
            version,
            since,
            sample,
            fields
        )
        .fetch_all(&self.maintenance)
        .await?)
    }

    /// The number of events that are parked because of a playbook before it had an answer, taken up since a time.
    pub async fn parked_unanswered(&self, playbook: &str, since: OffsetDateTime) -> Result<i64, LedgerError> {
        Ok(sqlx::query_scalar!(
            r#"select count(*) as "events!" from event e
               where e.state = 'parked' and e.first_claimed_at >= $2 and e.playbook = $1
                 and not exists (select from inference i where i.event_id = e.id and i.playbook = $1)"#,
            playbook,
            since
        )
        .fetch_one(&self.maintenance)
        .await?)
    }
}
