//! The faults of a RabbitMQ of three nodes: nodes that are killed, frozen, cut off, or restarted one after the other.

use std::{collections::HashMap, fmt, time::Duration};

use anyhow::{Context, Result};
use rand::{Rng, RngExt, seq::SliceRandom};
use reqwest::Method;
use serde::Deserialize;
use testbed::{RabbitMq, TestNamespace};

use super::phases::Phase;

/// A fault of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterFault {
    KillNode,
    KillLeader,
    KillTwo,
    FreezeNode,
    CutOffNode,
    RestartAll,
}

impl ClusterFault {
    pub const ALL: [Self; 6] =
        [Self::KillNode, Self::KillLeader, Self::KillTwo, Self::FreezeNode, Self::CutOffNode, Self::RestartAll];
}

impl fmt::Display for ClusterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillNode => "cluster: a node is killed (-9) and comes back",
            Self::KillLeader => "cluster: the queues' leader is killed (-9) and comes back",
            Self::KillTwo => "cluster: two of three nodes are killed (-9) and come back",
            Self::FreezeNode => "cluster: the queues' leader falls silent (SIGSTOP), wakes, and is restarted",
            Self::CutOffNode => "cluster: a node is cut off from the others",
            Self::RestartAll => "cluster: rolling restart",
        })
    }
}

/// How long a node is frozen or cut off: longer than the others need to notice it.
const AWAY: Duration = Duration::from_secs(15);

/// How long a node that was frozen is left as it is before it is restarted.
const AWAKE: Duration = Duration::from_secs(6);

/// A node that was cut off is back by itself within this time, or it is restarted.
const HEALS_WITHIN: Duration = Duration::from_secs(45);

/// Nodes that were killed and started again are up within this time, or the run fails.
const BACK_WITHIN: Duration = Duration::from_secs(180);

/// After this time at most the others notice that a node says nothing: 1.25 times the `net_ticktime` of the testbed's clusters (Erlang's
/// documentation of `kernel`).
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

impl ClusterFault {
    /// Injects the fault and ends it: when this returns, all nodes are up, and every queue has its three replicas.
    pub async fn inject(
        self,
        nodes: &mut [RabbitMq],
        namespace: &TestNamespace,
        random: &mut impl Rng,
    ) -> Result<Vec<Phase>> {
        let a_while = Duration::from_millis(random.random_range(3_000..7_000));
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.shuffle(random);
        let leader = leader(nodes, namespace).await?;
        let mut phases = match self {
            Self::KillNode => kill(&mut nodes[order[0]], a_while).await?,
            Self::KillLeader => kill(&mut nodes[leader], a_while).await?,
            Self::KillTwo => kill_two(nodes, &order, a_while).await?,
            Self::FreezeNode => freeze(&mut nodes[leader]).await?,
            Self::CutOffNode => cut_off(&nodes[order[0]]).await?,
            Self::RestartAll => restart_all(nodes, &order).await?,
        };
        if tokio::time::timeout(HEALS_WITHIN, until_replicated(nodes)).await.is_err() && self == Self::CutOffNode {
            // Mnesia may take a partition for one that only a restart ends; an operator would see it in `cluster_status`.
            eprintln!("  ! {} did not come back by itself, and is restarted", nodes[order[0]].name());
            phases.extend(kill(&mut nodes[order[0]], Duration::ZERO).await?);
        }
        until_replicated(nodes).await?;
        Ok(phases)
    }
}

async fn until_replicated(nodes: &mut [RabbitMq]) -> Result<()> {
    for node in nodes {
        node.until_up().await?;
        node.until_replicated().await?;
    }
    Ok(())
}

async fn kill(node: &mut RabbitMq, down: Duration) -> Result<Vec<Phase>> {
    let killed = Phase::majority();
    node.kill();
    tokio::time::sleep(down).await;
    let started = Phase::majority();
    node.start()?;
    node.until_up().await?;
    Ok(vec![killed, started, Phase::majority()])
}

async fn kill_two(nodes: &mut [RabbitMq], order: &[usize], down: Duration) -> Result<Vec<Phase>> {
    let killed = Phase::minority();
    for index in &order[..2] {
        nodes[*index].kill();
    }
    tokio::time::sleep(down).await;
    for index in &order[..2] {
        nodes[*index].start()?;
    }
    // The one that was left pauses while it is alone, and two nodes are a majority.
    let two_are_up = async {
        while nodes.iter().filter(|node| node.is_up()).count() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(BACK_WITHIN, two_are_up).await.context("two of three nodes do not come back")?;
    let first_back = Phase::majority();
    for node in nodes {
        node.until_up().await?;
    }
    Ok(vec![killed, first_back, Phase::majority()])
}

/// A node that wakes after the others gave it up finds them there again before it has noticed anything, so that it does not pause:
/// Mnesia calls that a partition, and a person has to restart it (RabbitMQ's documentation, "Clustering and Network Partitions").
async fn freeze(node: &mut RabbitMq) -> Result<Vec<Phase>> {
    let frozen = Phase::one_silent(NOTICED_WITHIN);
    node.freeze();
    tokio::time::sleep(AWAY).await;
    let woken = Phase::majority();
    node.thaw();
    tokio::time::sleep(AWAKE).await;
    // It may not stop by itself: it waits for the others, and they do not talk to it.
    Ok([vec![frozen, woken], kill(node, Duration::ZERO).await?].concat())
}

async fn restart(node: &mut RabbitMq) -> Result<Vec<Phase>> {
    let stopping = Phase::majority();
    node.stop().await;
    let starting = Phase::majority();
    node.start()?;
    node.until_up().await?;
    Ok(vec![stopping, starting, Phase::majority()])
}

async fn cut_off(node: &RabbitMq) -> Result<Vec<Phase>> {
    node.cut_off(AWAY).await?;
    let cut = Phase::majority();
    tokio::time::sleep(AWAY).await;
    Ok(vec![cut, Phase::majority()])
}

async fn restart_all(nodes: &mut [RabbitMq], order: &[usize]) -> Result<Vec<Phase>> {
    let mut phases = Vec::new();
    for index in order {
        // As an operator does: none goes before the one before it is back with its replicas.
        until_replicated(nodes).await?;
        phases.extend(restart(&mut nodes[*index]).await?);
    }
    Ok(phases)
}

/// A queue, as RabbitMQ's management API describes it.
#[derive(Deserialize)]
struct Queue {
    leader: Option<String>,
}

/// The node on which most queues have their leader.
async fn leader(nodes: &[RabbitMq], namespace: &TestNamespace) -> Result<usize> {
    let answer = namespace.management(Method::GET, &format!("queues/{}", namespace.name), None).await?;
    let queues: Vec<Queue> = serde_json::from_value(answer)?;
    let mut led: HashMap<String, usize> = HashMap::new();
    for leader in queues.into_iter().filter_map(|queue| queue.leader) {
        *led.entry(leader).or_default() += 1;
    }
    let most = led.into_iter().max_by_key(|(_, count)| *count).context("no queue has a leader")?.0;
    nodes.iter().position(|node| node.name() == most).with_context(|| format!("{most} is no node of this cluster"))
}
