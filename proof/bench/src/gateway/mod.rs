//! CPU time a request of the gateway, beside nginx as a plain reverse proxy before the same upstream.

mod load;
mod processes;
mod upstream;

use std::net::SocketAddr;

use crate::Failure;
use crate::measure::{float, median, process_time, ratio};
use crate::report::{Report, Table};

use load::{Load, Sends};
use processes::Running;
pub(crate) use upstream::serve as upstream;

/// Connections that are kept alive, each with one request at a time.
const CONNECTIONS: usize = 64;

/// One row of the table.
struct Subject<'a> {
    title: &'static str,
    target: Option<f64>,
    process: &'a Running,
    load: Load,
    /// Microseconds of CPU time a request, round by round.
    times: Vec<f64>,
}

pub(crate) fn measure(quick: bool) -> Result<Report, Failure> {
    let (rounds, requests) = if quick { (2, 640) } else { (21, 6400) };
    let mut report = Report::new("gateway");
    let folder = tempfile::tempdir_in(std::env::current_exe()?.parent().ok_or("no folder")?)?;
    let upstream = processes::upstream()?;
    let nginx = processes::nginx(folder.path(), upstream.address)?;
    if nginx.is_none() {
        report.notices.push("no ratios to nginx: install Debian's package `nginx-light`".into());
    }
    let memory = processes::semel("memory:", upstream.address)?;
    let file = format!("sqlite:{}", folder.path().join("semel.db").display());
    let sqlite = processes::semel(&file, upstream.address)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let subjects = runtime.block_on(async {
        let mut subjects = Vec::new();
        let rows = [
            ("nginx", None, nginx.as_ref(), Sends::Plain),
            ("Semel, pass-through", Some(1.25), Some(&memory), Sends::Plain),
            ("Semel, fresh key, memory", Some(1.8), Some(&memory), Sends::Fresh),
            ("Semel, replay, memory", Some(0.8), Some(&memory), Sends::Again),
            ("Semel, fresh key, SQLite", None, Some(&sqlite), Sends::Fresh),
            ("Semel, replay, SQLite", None, Some(&sqlite), Sends::Again),
        ];
        for (title, target, process, sends) in rows {
            let Some(process) = process else { continue };
            let load = connect(process.address, sends).await?;
            subjects.push(Subject { title, target, process, load, times: Vec::new() });
        }
        for round in 0..rounds {
            for subject in &mut subjects {
                let before = process_time(subject.process.pid())?;
                subject.load.send(requests / CONNECTIONS).await?;
                let took = process_time(subject.process.pid())?.saturating_sub(before);
                // The first round fills caches.
                if round > 0 {
                    subject.times.push(took.as_secs_f64() * 1e6 / float(requests));
                }
            }
        }
        Ok::<_, Failure>(subjects)
    })?;
    report.tables.push(table(&subjects));
    Ok(report)
}

async fn connect(address: SocketAddr, sends: Sends) -> Result<Load, Failure> {
    let mut load = Load::connect(address, CONNECTIONS, sends).await?;
    // What a replay needs to find, and every connection to the upstream.
    load.send(4).await?;
    Ok(load)
}

fn table(subjects: &[Subject<'_>]) -> Table {
    let nginx = subjects.iter().find(|subject| subject.target.is_none() && subject.title == "nginx");
    let rows = subjects.iter().map(|subject| {
        let beside = nginx.map_or("-".into(), |nginx| format!("{:.2}", ratio(&subject.times, &nginx.times)));
        let target = subject.target.map_or("-".into(), |target| format!("{target:.2}"));
        vec![subject.title.into(), beside, target, format!("{:.1}", median(subject.times.clone()))]
    });
    Table {
        name: "gateway",
        columns: vec!["", "CPU time, ratio to nginx", "target", "µs a request"],
        rows: rows.collect(),
    }
}
