//! Money: what questions may cost in a day, by playbook and in all.

use std::{collections::HashMap, time::Duration};

use ledger::{BudgetTerms, Ledger, Window};
use retry::NotYet;

use crate::purse::Purse;

/// Pays for questions, as long as the day's money lasts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Wallet {
    all: Option<Purse>,
    playbooks: HashMap<String, Purse>,
}

/// Money that is set aside for a question, in micro-dollars.
#[derive(Debug)]
pub struct SetAside {
    micro_dollars: i64,
    playbook: Option<i64>,
    all: Option<i64>,
}

/// Nobody waits for midnight in a worker.
const PATIENCE: Duration = Duration::ZERO;

impl Wallet {
    /// A wallet with so much money a day, in micro-dollars: for all playbooks together (0: no limit) and for each of those
    /// that have a limit of their own.
    pub fn open(ledger: &Ledger, all: i64, playbooks: impl IntoIterator<Item = (String, i64)>) -> Self {
        let purse = |name: String, quota| {
            let terms = BudgetTerms { name, window: Window::Day, quota, share: 1.0 };
            Purse::open(ledger.clone(), vec![terms], 1.0)
        };
        Self {
            all: (all > 0).then(|| purse("openai/money/day".to_owned(), all)),
            playbooks: playbooks
                .into_iter()
                .map(|(name, cap)| {
                    let purse = purse(format!("openai/money/{name}/day"), cap);
                    (name, purse)
                })
                .collect(),
        }
    }

    /// Sets money aside for a question of `playbook`.
    pub async fn set_aside(&self, playbook: &str, micro_dollars: i64) -> Result<SetAside, NotYet> {
        let take = |purse: Option<&Purse>| {
            let purse = purse.cloned();
            async move {
                match purse {
                    Some(purse) => purse.take(vec![micro_dollars], PATIENCE).await.map(|slices| Some(slices[0])),
                    None => Ok(None),
                }
            }
        };
        let own = take(self.playbooks.get(playbook)).await?;
        match take(self.all.as_ref()).await {
            Ok(all) => Ok(SetAside { micro_dollars, playbook: own, all }),
            Err(error) => {
                self.settle(playbook, &SetAside { micro_dollars, playbook: own, all: None }, 0);
                Err(error)
            }
        }
    }

    /// The question has cost so much.
    pub fn settle(&self, playbook: &str, aside: &SetAside, cost: i64) {
        let unused = aside.micro_dollars - cost;
        if let (Some(purse), Some(slice)) = (self.playbooks.get(playbook), aside.playbook) {
            purse.settle(0, slice, unused);
        }
        if let (Some(purse), Some(slice)) = (&self.all, aside.all) {
            purse.settle(0, slice, unused);
        }
    }
}
