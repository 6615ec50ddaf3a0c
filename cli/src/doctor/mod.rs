//! `semel doctor`: what is wrong with a store, and what to do about it.

mod report;
mod selftest;

use semel_core::store::{AnyStore, Finding, Severity};

use crate::args::DoctorArgs;
use crate::exit::{Exit, Fault};
use crate::out;
use crate::store::Place;
use report::Report;

pub(crate) fn run(args: &DoctorArgs) -> Result<Exit, Fault> {
    let place = Place::positional(&args.store, args.schema.as_deref())?;
    let mut report = Report::of(&place.url().to_string());
    // Before there is a runtime: it blocks.
    match place.open_as_it_is() {
        Err(error) => report.add([Finding::from(&error)]),
        Ok(store) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .map_err(|error| Fault::system("cannot start", &error))?;
            runtime.block_on(examine(&store, args.rounds, &mut report));
        }
    }
    if args.json { out::json(&report) } else { out::print(report.to_string()) }?;
    Ok(match report.worst() {
        Severity::Fine => Exit::Ok,
        Severity::Warning => Exit::Negative,
        Severity::Unusable => Exit::Store,
    })
}

async fn examine(store: &AnyStore, rounds: u32, report: &mut Report) {
    match store.examine().await {
        Ok(findings) => report.add(findings),
        Err(error) => report.add([Finding::from(&error)]),
    }
    let test = match selftest::Test::new(store) {
        Ok(test) => test,
        Err(finding) => return report.add([finding]),
    };
    match test.prove_replay().await {
        Ok(clock) => {
            report.self_test_passed();
            report.clock(clock);
        }
        Err(finding) => return report.add([finding]),
    }
    match test.measure(rounds).await {
        Ok(latency) => report.latency(latency),
        Err(error) => report.add([Finding::from(&error)]),
    }
}
