//! `--keep`: leaves the fleet running for a look around.

use lab::Fleet;

/// Prints the addresses and waits; Ctrl-C ends the program.
pub async fn until_stopped(fleet: &Fleet) {
    let (management, login) = fleet.namespace.management_login();
    println!("\neverything stays up until Ctrl-C");
    println!("  RabbitMQ management UI  {management}/#/queues/{}  ({login})", fleet.namespace.name);
    println!("  Postgres                psql {}", fleet.namespace.postgres_url);
    for receiver in fleet.receivers() {
        println!("  receiver                {receiver}");
    }
    for member in &fleet.members {
        println!("  {:<23} {}/metrics", member.process.name(), member.admin_url);
    }
    std::future::pending::<()>().await;
}
