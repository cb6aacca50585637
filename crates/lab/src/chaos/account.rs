//! The account: what OpenAI billed is what the ledger says, request by request.
//!
//! Every request carries the id of its charge. What can be known is asserted exactly:
//!
//! - Every billed request has a charge: nothing is sent before its charge is committed.
//! - A charge that says `answered` costs what was billed, to the micro-dollar, and one that says `free` was not billed.
//! - A charge whose answer was lost, unreadable or silent about its cost (`estimated`), or whose worker died before it could
//!   commit (`reserved`), counts as no less than what was billed.
//! - `reserved` is left only under a claim that another one has followed: the claim that commits settles everything.
//! - An answer that was received is recorded as an inference, unless its claim was followed by another one.
//! - An inference costs what its answered charges cost.
//!
//! What cannot be known is what a lost answer cost: OpenAI has no way to ask.

use std::collections::HashMap;

use anyhow::Result;
use lab::SimulatorClient;
use simulator::Charge;
use sqlx::PgPool;

/// What was billed, and what the ledger says. Money is in micro-dollars.
#[derive(Debug, Default)]
pub struct Account {
    /// The billed requests, and what they cost.
    pub billed: Total,
    /// What the ledger says in all.
    pub recorded: Total,
    /// Requests whose cost the ledger knows.
    pub known: Total,
    /// Requests whose cost the ledger estimates, and the estimates.
    pub estimated: Total,
    /// What those among them that were billed did cost.
    pub estimated_billed: Total,
    /// Requests whose worker died before it could commit.
    pub reserved: Total,
    /// Answers that were received and are no inference, because the claim had been taken over.
    pub paid_twice: usize,
}

/// A number of requests, and their money.
#[derive(Debug, Default, Clone, Copy)]
pub struct Total {
    pub requests: usize,
    pub micro_dollars: i64,
}

impl Total {
    fn add(&mut self, micro_dollars: i64) {
        self.requests += 1;
        self.micro_dollars += micro_dollars;
    }
}

/// A charge of the ledger: one field for each column.
#[derive(Debug, sqlx::FromRow)]
struct Row {
    id: String,
    state: String,
    reserved_micro_dollars: i64,
    micro_dollars: i64,
    /// Whether its event was claimed again after the claim under which it was sent.
    is_followed: bool,
    is_inference: bool,
}

/// Compares the simulator's charges with the ledger's, and adds what does not fit to `wrong`.
pub async fn check(simulator: &SimulatorClient, ledger: &PgPool, wrong: &mut Vec<String>) -> Result<Account> {
    let rows: Vec<Row> = sqlx::query_as(
        "select c.id::text, c.state, c.reserved_micro_dollars, c.micro_dollars, c.attempt < e.attempt as is_followed,
                i.id is not null as is_inference
         from charge c join event e on e.id = c.event_id left join inference i on i.id = c.inference_id",
    )
    .fetch_all(ledger)
    .await?;
    let mut account = Account::default();
    let mut billed: HashMap<String, Charge> = HashMap::new();
    for charge in simulator.charges().await? {
        account.billed.add(charge.micro_dollars);
        let Some(id) = charge.client_request_id.clone() else {
            wrong.push("a request was billed that carried no id".to_owned());
            continue;
        };
        if billed.insert(id.clone(), charge).is_some() {
            wrong.push(format!("request {id} was billed twice"));
        }
    }
    for row in rows {
        let bill = billed.remove(&row.id).map(|charge| charge.micro_dollars);
        account.add(&row, bill, wrong);
    }
    for id in billed.into_keys() {
        wrong.push(format!("request {id} was billed and is not in the ledger"));
    }
    if account.recorded.micro_dollars < account.billed.micro_dollars {
        wrong.push(format!(
            "{} µ$ were billed, the ledger says {}",
            account.billed.micro_dollars, account.recorded.micro_dollars
        ));
    }
    let unequal: Vec<String> = sqlx::query_scalar(
        "select i.id::text from inference i join charge c on c.inference_id = i.id and c.state = 'answered'
         group by i.id having sum(c.micro_dollars) <> i.cost_micro_dollars
            and not exists (select from charge o where o.inference_id = i.id and o.state = 'estimated')",
    )
    .fetch_all(ledger)
    .await?;
    wrong.extend(unequal.iter().map(|id| format!("inference {id} does not cost what its requests cost")));
    Ok(account)
}

impl Account {
    /// Adds a charge that was billed with `bill`, or not.
    fn add(&mut self, row: &Row, bill: Option<i64>, wrong: &mut Vec<String>) {
        let Row { id, state, micro_dollars, .. } = row;
        let is_right = match (state.as_str(), bill) {
            ("answered", Some(bill)) => bill == *micro_dollars,
            ("free", None) => *micro_dollars == 0,
            // What was set aside by its length is counted when it is settled.
            ("estimated", bill) => *micro_dollars <= row.reserved_micro_dollars && bill.unwrap_or(1) <= *micro_dollars,
            ("reserved", bill) => {
                *micro_dollars == row.reserved_micro_dollars && bill.is_none_or(|bill| bill <= *micro_dollars)
            }
            _ => false,
        };
        if !is_right {
            wrong.push(format!("request {id} is {state} with {micro_dollars} µ$, and was billed {bill:?}"));
        }
        if state == "free" {
            return;
        }
        self.recorded.add(*micro_dollars);
        match state.as_str() {
            "answered" => self.known.add(*micro_dollars),
            "reserved" => self.reserved.add(*micro_dollars),
            _ => self.estimated.add(*micro_dollars),
        }
        if state != "answered"
            && let Some(bill) = bill
        {
            self.estimated_billed.add(bill);
        }
        if state == "reserved" && !row.is_followed {
            wrong.push(format!("request {id} is reserved, and no later claim says that its worker died"));
        }
        if state == "answered" && !row.is_inference {
            self.paid_twice += 1;
            if !row.is_followed {
                wrong.push(format!("request {id} was answered, and its answer is not recorded"));
            }
        }
    }
}
