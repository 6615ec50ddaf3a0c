//! One run: services, clients, what breaks, and the books.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use semel_testkit::cable::Cable;
use semel_testkit::{mysql, postgres};
use sqlx::{Connection as _, MySqlConnection, PgConnection, Row as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::Failure;
use crate::bank::{Database, Line};
use crate::books::Report;
use crate::clients::Desk;
use crate::nemesis::{self, Remote, Server, Service};
use crate::service::{self, Mistake};

/// Two services, as two instances of an application are.
const SERVICES: usize = 2;
const CLIENTS: usize = 12;

/// What to do.
pub(crate) struct Plan {
    pub(crate) database: Database,
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    pub(crate) mistake: Option<Mistake>,
}

pub(crate) async fn run(plan: &Plan) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let (url, mut remote) = match plan.database {
        Database::Sqlite => (format!("sqlite:{}", folder.path().join("bank.db").display()), None),
        Database::MySql => {
            let server = mysql::Server::start(&["--max-connections=200"]).await?;
            let server =
                server.ok_or("MariaDB's programs are not installed: Debian's package `mariadb-server`")?;
            let cable = Cable::to(server.address())?;
            let url = format!("mysql://root@{}/app", cable.address());
            (url, Some(Remote { server: Server::MySql(server), cable }))
        }
        Database::Postgres => {
            let server = postgres::Server::start(&["max_connections=200"]).await?;
            let server =
                server.ok_or("PostgreSQL's programs are not installed: Debian's package `postgresql`")?;
            let cable = Cable::to(server.address())?;
            let url = format!("postgres://postgres@{}/postgres", cable.address());
            (url, Some(Remote { server: Server::Postgres(server), cable }))
        }
    };
    service::found(&url).await?;
    let mut services = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..SERVICES {
        let address = free()?;
        services.push(Service::start(address, url.clone(), plan.mistake)?);
        addresses.push(address);
    }
    for address in &addresses {
        listens(*address).await?;
    }
    let desk =
        Arc::new(Desk { services: addresses, closing: AtomicBool::new(false), tries: AtomicUsize::new(0) });
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| tokio::spawn(Arc::clone(&desk).client(number, rng.u64(..)))).collect();
    let mut report = Report {
        database: plan.database.name(),
        seed: plan.seed,
        seconds: plan.seconds,
        ..Report::default()
    };
    nemesis::rage(&mut services, remote.as_mut(), plan.seconds, &mut rng, &mut report).await?;
    desk.closing.store(true, Ordering::Relaxed);
    let mut told = Vec::new();
    for client in clients {
        told.extend(client.await?);
    }
    report.tries = desk.tries.load(Ordering::Relaxed);
    drop(services);
    let (lines, balances) = match remote.as_ref().map(|remote| &remote.server) {
        Some(Server::MySql(server)) => of_mysql(&server.url()).await?,
        Some(Server::Postgres(server)) => of_postgres(&server.url()).await?,
        None => of_sqlite(&folder.path().join("bank.db"))?,
    };
    report.judge(&told, &lines, &balances);
    Ok(report)
}

fn free() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

async fn listens(address: SocketAddr) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(address).await.is_err() {
        if Instant::now() > until {
            return Err("a service does not start".into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

type Books = (Vec<Line>, Vec<i64>);

async fn of_mysql(url: &str) -> Result<Books, Failure> {
    let mut connection = MySqlConnection::connect(url).await?;
    let mut lines = Vec::new();
    let ledger = "SELECT name, payer, payee, cents FROM ledger";
    for row in sqlx::query(ledger).fetch_all(&mut connection).await? {
        let (from, to, cents) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        lines.push(Line { key: row.try_get(0)?, from, to, cents });
    }
    let accounts = sqlx::query("SELECT cents FROM account ORDER BY n").fetch_all(&mut connection).await?;
    let balances = accounts.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok((lines, balances))
}

async fn of_postgres(url: &str) -> Result<Books, Failure> {
    let mut connection = PgConnection::connect(url).await?;
    let mut lines = Vec::new();
    for row in sqlx::query("SELECT key, payer, payee, cents FROM ledger").fetch_all(&mut connection).await? {
        let (from, to, cents) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        lines.push(Line { key: row.try_get(0)?, from, to, cents });
    }
    let accounts = sqlx::query("SELECT cents FROM account ORDER BY n").fetch_all(&mut connection).await?;
    let balances = accounts.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok((lines, balances))
}

fn of_sqlite(path: &Path) -> Result<Books, Failure> {
    let file = rusqlite::Connection::open(path)?;
    let lines = file
        .prepare("SELECT key, payer, payee, cents FROM ledger")?
        .query_map((), |row| {
            Ok(Line { key: row.get(0)?, from: row.get(1)?, to: row.get(2)?, cents: row.get(3)? })
        })?
        .collect::<Result<_, _>>()?;
    let balances = file
        .prepare("SELECT cents FROM account ORDER BY n")?
        .query_map((), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok((lines, balances))
}
