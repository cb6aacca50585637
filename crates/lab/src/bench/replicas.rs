//! More replicas of each worker on the same cores.

use anyhow::Result;
use lab::FleetPlan;
use testbed::{Services, step};

use super::{
    fleet::{Bench, Conditions, Pace},
    report::{Results, number},
};

/// Measures one, two and four of each worker.
pub async fn run(services: &Services, plan: &FleetPlan, results: &mut Results) -> Result<()> {
    println!("\nreplicas, on the same cores");
    for count in [1, 2, 4] {
        let plan = FleetPlan { inferences: count, writers: count, ..plan.clone() };
        let conditions = Conditions { plan, contacts: 22_000, ..Conditions::default() };
        let bench = step(&format!("{count} inferences, {count} writers"), Bench::start(services, conditions)).await?;
        bench.run(2_000, Pace::FULL).await?;
        let through = bench.run(20_000, Pace::FULL).await?;
        println!(
            "  {count}: {} events per second, {} per CPU-second, {:.0} MiB",
            number(through.per_second),
            number(through.per_cpu_second),
            through.memory
        );
        results.row(&format!("{count} of each worker, events"), format!("{} /s", number(through.per_second)), "");
        results.bar("replicas of each worker", format!("{count}"), through.per_second, "/s", false);
    }
    Ok(())
}
