//! Asks every model about every case, a few at a time.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Instant,
};

use anyhow::Context as _;
use domain::review::WriteMode;
use futures_util::{StreamExt, stream};
use inference::{ModelClient, QuestionLog, StepError, UsableAnswer};
use playbook::{LocalTime, manual_event_variable};

use super::{
    amounts::dollars,
    candidate::Candidate,
    report::{CaseAnswer, Tokens},
};
use crate::{
    playbooks::cases::{EvalCase, ExpectationCheck},
    print::Progress,
};

/// Everything that is to be asked.
pub struct Questions<'a> {
    list: Vec<Question<'a>>,
}

/// One model, one case, one of its repetitions.
struct Question<'a> {
    candidate: &'a Candidate,
    case: &'a EvalCase,
    /// From 1.
    repetition: u32,
    /// The most that it costs if its first answer can be used, in micro-dollars; `None` for a model without a price.
    most: Option<i64>,
}

impl<'a> Questions<'a> {
    /// Every model with every case, `repeat` times. The models take turns, so that all of them meet the same weather.
    ///
    /// # Errors
    /// The prompt of a case cannot be rendered.
    pub async fn prepare(
        model_client: &ModelClient,
        candidates: &'a [Candidate],
        cases: &'a [EvalCase],
        repeat: u32,
        now: &LocalTime,
    ) -> anyhow::Result<Self> {
        let mut once = Vec::new();
        for case in cases {
            for candidate in candidates {
                let Candidate { playbook, model } = candidate;
                let about = (&case.context, now);
                let usage = inference::most_usage(model_client, playbook, model, case.context.record(), about).await;
                let usage = usage.with_context(|| case.file.clone())?;
                once.push((candidate, case, inference::most_cost(playbook, model, &usage)));
            }
        }
        let round = |repetition| {
            let question = move |&(candidate, case, most)| Question { candidate, case, repetition, most };
            once.iter().map(question).collect::<Vec<_>>()
        };
        Ok(Self { list: (1..=repeat).flat_map(round).collect() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// About the most that all of them cost, in micro-dollars; `None` when a model has no known price.
    pub fn most_micro_dollars(&self) -> Option<i64> {
        self.list.iter().try_fold(0_i64, |sum, question| Some(sum.saturating_add(question.most?)))
    }

    /// The models without a known price.
    pub fn without_price(&self) -> Vec<&str> {
        let unknown = self.list.iter().filter(|question| question.most.is_none());
        let mut names: Vec<_> = unknown.map(|question| question.candidate.model.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Asks all questions, at most `concurrency` at once, and shows how far it is. Answers come in the order of the questions.
pub async fn ask_all(
    model_client: &ModelClient,
    questions: &Questions<'_>,
    concurrency: u32,
    max_cost: Option<i64>,
    now: &LocalTime,
) -> Vec<CaseAnswer> {
    let budget = RunBudget { max: max_cost, taken: AtomicI64::new(0) };
    let all = questions.list.len();
    let progress = Progress::start("answered", all);
    let asked = questions.list.iter().enumerate().map(|(index, question)| {
        let budget = &budget;
        async move { (index, question.ask(model_client, budget, now).await) }
    });
    let mut asked = stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(concurrency as usize);
    let mut answers = Vec::with_capacity(all);
    while let Some(answer) = asked.next().await {
        answers.push(answer);
        let spent = answers.iter().filter_map(|(_, answer)| answer.cost_micro_dollars).sum();
        progress.tell_with(answers.len(), &format!("{} so far", dollars(spent)));
    }
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// The money of one run. An estimate knows nothing of repairs, so the bound also holds while it is spent.
struct RunBudget {
    max: Option<i64>,
    taken: AtomicI64,
}

impl RunBudget {
    /// Takes `most`, or says that it is not there.
    fn take(&self, most: i64) -> bool {
        let taken = self.taken.fetch_add(most, Ordering::Relaxed).saturating_add(most);
        let is_there = self.max.is_none_or(|max| taken <= max);
        if !is_there {
            self.taken.fetch_sub(most, Ordering::Relaxed);
        }
        is_there
    }

    /// It was not `most` but `cost`.
    fn settle(&self, most: i64, cost: i64) {
        self.taken.fetch_add(cost - most, Ordering::Relaxed);
    }
}

impl Question<'_> {
    async fn ask(&self, model_client: &ModelClient, budget: &RunBudget, now: &LocalTime) -> CaseAnswer {
        let Self { candidate: Candidate { playbook, model }, case, repetition, most } = *self;
        let mut answered = CaseAnswer {
            model: model.name.clone(),
            case: case.file.clone(),
            repetition,
            answered_by: None,
            checks: Vec::new(),
            failure: None,
            cost_micro_dollars: most.map(|_| 0),
            latency_ms: 0,
            tokens: Tokens::default(),
        };
        let most = most.unwrap_or(0);
        if !budget.take(most) {
            answered.failure = Some("not asked: what --max-cost allows is used up".to_owned());
            return answered;
        }
        let log = QuestionLog::none();
        let started = Instant::now();
        let about = (&case.context, now);
        let answer = inference::answer(model_client, playbook, model, case.context.record(), about, &log).await;
        answered.latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (cost, parts) = log.into_cost_and_parts();
        budget.settle(most, cost);
        answered.cost_micro_dollars = model.price.map(|_| cost);
        for inference in answer.inferences.iter().chain(&parts) {
            answered.tokens.add(&inference.usage);
        }
        answered.answered_by = answer.inferences.last().map(|inference| inference.model.clone());
        match answer.result.map_err(Failure::from).and_then(|answer| self.checks(&answer, now)) {
            Ok(checks) => answered.checks = checks,
            Err(Failure::Unusable(why)) => answered.checks = case.all_missed(&why),
            Err(Failure::NotJudged(why)) => answered.failure = Some(why),
        }
        answered
    }

    fn checks(&self, answer: &UsableAnswer, now: &LocalTime) -> Result<Vec<ExpectationCheck>, Failure> {
        let Self { candidate: Candidate { playbook, .. }, case, .. } = self;
        let event = manual_event_variable(now.now);
        let planned = playbook.plan_writes(&event, &case.context, &answer.fields, &answer.model, now, WriteMode::Live);
        let planned = planned.map_err(|error| Failure::NotJudged(error.to_string()))?;
        let actions = planned.iter().flat_map(|planned| &planned.actions).map(|action| action.name.clone());
        Ok(case.check(&answer.fields, &actions.collect::<Vec<_>>()))
    }
}

/// Why there is no answer that can be compared.
enum Failure {
    /// The model answered, and the answer is good for nothing: a miss.
    Unusable(String),
    /// The model was not asked, did not answer, or what follows from its answer is not known.
    NotJudged(String),
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Answer { detail, .. } => Self::Unusable(detail),
            other => Self::NotJudged(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::RunBudget;

    #[test]
    fn what_repairs_cost_is_not_there_for_later_questions() {
        let budget = RunBudget { max: Some(100), taken: AtomicI64::new(0) };
        assert!(budget.take(40) && budget.take(40) && !budget.take(40));
        budget.settle(40, 10);
        assert!(budget.take(40), "what was not used is there again");
        budget.settle(40, 90);
        assert!(!budget.take(1));
    }
}
