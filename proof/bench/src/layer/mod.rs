//! What the layer adds to a POST with a 200 B JSON body and a 300 B answer.

mod served;
mod subjects;

use std::collections::HashMap;
use std::time::Duration;

use crate::measure::{float, median, ratio, thousands, thread_time};
use crate::report::{Report, Table};
use crate::{Failure, valgrind};

pub(crate) use served::parse;
pub(crate) use subjects::ORDER;
use subjects::{Load, Subject};

/// A host: the same handler without the layer, and with it.
struct Group {
    table: &'static str,
    /// The row that the others are compared with, by the method of their requests.
    post: &'static str,
    get: &'static str,
    rows: &'static [(&'static str, &'static str)],
}

const GROUPS: [Group; 3] = [
    Group {
        table: "layer-tower",
        post: "tower-post",
        get: "tower-get",
        rows: &[
            ("tower-post", "tower service, POST"),
            ("tower-nothing-post", "the same in a layer that does nothing"),
            ("tower-fresh", "in Semel, fresh key"),
            ("tower-replay", "in Semel, replay"),
            ("tower-get", "tower service, GET"),
            ("tower-nothing-get", "the same in a layer that does nothing"),
            ("tower-unguarded", "in Semel, not guarded"),
        ],
    },
    Group {
        table: "layer-axum",
        post: "axum-post",
        get: "axum-get",
        rows: &[
            ("axum-post", "axum router, POST"),
            ("axum-nothing-post", "the same in a layer that does nothing"),
            ("axum-fresh", "in Semel, fresh key"),
            ("axum-replay", "in Semel, replay"),
            ("axum-get", "axum router, GET"),
            ("axum-nothing-get", "the same in a layer that does nothing"),
            ("axum-unguarded", "in Semel, not guarded"),
        ],
    },
    Group {
        table: "layer-served",
        post: "served-post",
        get: "served-get",
        rows: &[
            ("served-post", "axum behind hyper's HTTP/1.1, POST"),
            ("served-fresh", "in Semel, fresh key"),
            ("served-replay", "in Semel, replay"),
            ("served-get", "axum behind hyper's HTTP/1.1, GET"),
            ("served-nothing-get", "the same in a layer that does nothing"),
            ("served-unguarded", "in Semel, not guarded"),
        ],
    },
];

/// Runs one subject: what Valgrind watches.
pub(crate) fn subject(name: &str, requests: usize, unsent: bool) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut subject = Subject::new(name)?;
        subject.prepare().await?;
        let load = subject.load(requests);
        if unsent {
            drop(load);
            return Ok(());
        }
        subject.send(load).await
    })
}

pub(crate) fn measure(quick: bool) -> Result<Report, Failure> {
    let mut report = Report::new("layer");
    let with_valgrind = valgrind::is_here();
    if !with_valgrind {
        report.notices.push("no instructions and allocations: install Debian's package `valgrind`".into());
    }
    for group in &GROUPS {
        let times = times(group, quick)?;
        let mut costs = HashMap::new();
        if with_valgrind {
            let requests = if quick { 20 } else { 1000 };
            for (name, _) in group.rows {
                costs.insert(*name, valgrind::cost(name, requests)?);
            }
        }
        report.tables.push(table(group, &times, &costs));
    }
    Ok(report)
}

type Times = HashMap<&'static str, Vec<f64>>;

/// Nanoseconds of CPU time a request, round by round. Each round takes every subject in turn, so that what
/// disturbs the machine disturbs them alike.
fn times(group: &Group, quick: bool) -> Result<Times, Failure> {
    let (rounds, requests) = if quick { (3, 50) } else { (101, 400) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut subjects = Vec::new();
        for (name, _) in group.rows {
            let mut subject = Subject::new(name)?;
            subject.prepare().await?;
            subjects.push((*name, subject));
        }
        let mut times = Times::new();
        for round in 0..rounds {
            for (name, subject) in &mut subjects {
                let load = subject.load(requests);
                let took = timed(subject, load).await?;
                // The first round fills caches.
                if round > 0 {
                    times.entry(name).or_default().push(took.as_secs_f64() * 1e9 / float(requests));
                }
            }
        }
        Ok(times)
    })
}

async fn timed(subject: &mut Subject, load: Load) -> Result<Duration, Failure> {
    let before = thread_time();
    subject.send(load).await?;
    Ok(thread_time().saturating_sub(before))
}

fn table(group: &Group, times: &Times, costs: &HashMap<&str, valgrind::Cost>) -> Table {
    let none = Vec::new();
    let rows = group.rows.iter().map(|(name, title)| {
        let beside =
            if name.ends_with("get") || name.ends_with("unguarded") { group.get } else { group.post };
        let (own, base) = (times.get(name).unwrap_or(&none), times.get(beside).unwrap_or(&none));
        let mut row =
            vec![(*title).to_owned(), format!("{:.2}", ratio(own, base)), thousands(median(own.clone()))];
        match (costs.get(name), costs.get(beside)) {
            (Some(cost), Some(base)) => {
                let plain = |cost: &valgrind::Cost| cost.instructions - cost.sha256;
                row.push(format!("{:.2}", plain(cost) / plain(base)));
                row.push(thousands(plain(cost)));
                row.push(thousands(cost.sha256));
                row.push(format!("{:.1}", cost.allocations));
            }
            _ => row.extend(std::iter::repeat_n("-".to_owned(), 4)),
        }
        row
    });
    Table {
        name: group.table,
        columns: vec![
            "",
            "time, ratio",
            "ns",
            "instructions, ratio",
            "instructions",
            "SHA-256 in software",
            "allocations",
        ],
        rows: rows.collect(),
    }
}
