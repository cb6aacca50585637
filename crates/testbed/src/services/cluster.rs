//! A private RabbitMQ: one node, or three that are a cluster, with a port mapper (epmd) and a cookie of their own.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::Result;

use super::rabbitmq::{Node, Ports, RabbitMq, start_epmd};
use crate::{Process, free_port};

/// How many nodes a RabbitMQ has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    One,
    /// The smallest cluster that outlives the loss of a node.
    Three,
}

/// What the nodes of a cluster have in their `rabbitmq.conf`, as docs/operations.md says: a node that is alone stops serving, and one that
/// says nothing is given up after 6 to 10 seconds, not after a minute. Less, and a busy machine would seem to say nothing.
const OF_A_CLUSTER: &str = "cluster_partition_handling = pause_minority\nnet_ticktime = 8\n";

/// The running nodes; ended when dropped. Fields are dropped in this order.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) nodes: Vec<RabbitMq>,
    _epmd: Process,
}

impl Cluster {
    /// Starts it with its data below `folder`. The last node may still be starting when this returns.
    pub(super) async fn start(folder: &Path, size: Size, config: &str, advanced: &str) -> Result<Self> {
        let port_mapper = free_port()?;
        let home = folder.join("home");
        write_cookie(&home)?;
        let epmd = start_epmd(port_mapper, &folder.join("epmd.log"))?;
        let node = |folder: &str, ports, config| Node {
            folder: home.with_file_name(folder),
            ports,
            epmd: port_mapper,
            home: home.clone(),
            config,
            advanced: advanced.to_owned(),
        };
        if size == Size::One {
            let only = RabbitMq::start_node(node("rabbitmq", Ports::free()?, config.to_owned()))?;
            return Ok(Self { nodes: vec![only], _epmd: epmd });
        }
        let mut nodes: Vec<RabbitMq> = Vec::new();
        for folder in ["rabbitmq-1", "rabbitmq-2", "rabbitmq-3"] {
            let ports = Ports::free()?;
            let mut config = format!("{config}{OF_A_CLUSTER}");
            // The first one is a RabbitMQ of its own, which the others join, one after the other.
            if let Some(before) = nodes.last_mut() {
                before.until_up().await?;
                config.push_str(&join(&nodes[0].name(), &ports.node_name()));
            }
            nodes.push(RabbitMq::start_node(node(folder, ports, config))?.killed_at_the_end());
        }
        Ok(Self { nodes, _epmd: epmd })
    }
}

/// Lines of `rabbitmq.conf` by which a new node joins `first`.
fn join(first: &str, this: &str) -> String {
    format!(
        "cluster_formation.peer_discovery_backend = classic_config\n\
         cluster_formation.classic_config.nodes.1 = {first}\ncluster_formation.classic_config.nodes.2 = {this}\n"
    )
}

/// Erlang makes a cookie where there is none; two nodes that start at once would each make one.
fn write_cookie(home: &Path) -> Result<()> {
    fs::create_dir_all(home)?;
    let path = home.join(".erlang.cookie");
    fs::write(&path, uuid::Uuid::now_v7().simple().to_string())?;
    // Erlang refuses one that others may read.
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o400))?)
}
