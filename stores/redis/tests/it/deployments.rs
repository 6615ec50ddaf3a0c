//! Sentinels and clusters of one's own, to be failed over and resharded.

use std::time::{Duration, Instant};

use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(30);
/// A replica is given its data at once: by default a primary waits five seconds for others to come.
const ALWAYS: [&str; 8] =
    ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0"];

/// Polls until it is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < give_up, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Says it again where the connection was cut: a Sentinel that promotes or demotes a server disconnects everybody there,
/// whoever asks just then included.
pub(crate) fn say(server: &Server, words: &[&str]) -> redis::Value {
    let mut cmd = redis::cmd(words[0]);
    cmd.arg(&words[1..]);
    let give_up = Instant::now() + PATIENCE;
    loop {
        match cmd.query(&mut server.connection()) {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_io_error() && Instant::now() < give_up, "{words:?}: {error}"),
        }
    }
}

fn text(server: &Server, words: &[&str]) -> String {
    redis::from_redis_value(say(server, words)).unwrap()
}

fn follows(replica: &Server) -> bool {
    text(replica, &["INFO", "replication"]).contains("master_link_status:up")
}

/// A primary, its replica, and a Sentinel that takes a second's silence for a death.
pub(crate) struct Watched {
    pub(crate) primary: Server,
    pub(crate) replica: Server,
    sentinel: Server,
}

impl Watched {
    pub(crate) fn start() -> Option<Self> {
        let primary = Server::start(&ALWAYS)?;
        let of = format!("127.0.0.1 {}", primary.port);
        let replica = Server::start(&[&ALWAYS[..], &["--replicaof", &of]].concat())?;
        let sentinel = Server::start(&["--sentinel"])?;
        let port = primary.port.to_string();
        say(&sentinel, &["SENTINEL", "MONITOR", "mymaster", "127.0.0.1", &port, "1"]);
        for (setting, value) in [("down-after-milliseconds", "1000"), ("failover-timeout", "3000")] {
            say(&sentinel, &["SENTINEL", "SET", "mymaster", setting, value]);
        }
        until("the replica follows", || follows(&replica));
        let known = || matches!(say(&sentinel, &["SENTINEL", "REPLICAS", "mymaster"]), redis::Value::Array(known) if !known.is_empty());
        until("the Sentinel knows the replica", known);
        Some(Self { primary, replica, sentinel })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/0?service=mymaster", self.sentinel.port)
    }
}

impl Watched {
    /// A connection to whom the Sentinel names now.
    pub(crate) fn named(&self) -> redis::Connection {
        let named = say(&self.sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]);
        let (host, port): (String, u16) = redis::from_redis_value(named).unwrap();
        redis::Client::open((host, port)).unwrap().get_connection().unwrap()
    }
}

impl Watched {
    /// Has the data nodes and the Sentinel ask for a password each. Nothing here talks to them without afterwards.
    pub(crate) fn lock(&self, data: &str, watch: &str) {
        say(&self.sentinel, &["SENTINEL", "SET", "mymaster", "auth-pass", data]);
        for server in [&self.replica, &self.primary] {
            say(server, &["CONFIG", "SET", "masterauth", data, "requirepass", data]);
        }
        say(&self.sentinel, &["ACL", "SETUSER", "default", "resetpass", &format!(">{watch}")]);
    }
}

/// Three primaries, each with as many replicas as asked for: none, or one.
pub(crate) struct Clustered {
    pub(crate) primaries: Vec<Server>,
    pub(crate) replicas: Vec<Server>,
}

impl Clustered {
    pub(crate) fn start(replicas: bool) -> Option<Self> {
        let settings = [
            &ALWAYS[..],
            &["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"],
            &["--cluster-replica-validity-factor", "0"],
        ]
        .concat();
        let mut primaries = Vec::new();
        for (at, (first, last)) in [(0, 5460), (5461, 10922), (10923, 16383)].into_iter().enumerate() {
            let server = Server::start(&settings)?;
            say(&server, &["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
            say(&server, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            primaries.push(server);
        }
        let mut followers = Vec::new();
        if replicas {
            for _ in &primaries {
                followers.push(Server::start(&settings)?);
            }
        }
        let here = Self { primaries, replicas: followers };
        let all: Vec<_> = here.primaries.iter().chain(&here.replicas).collect();
        for other in &all[1..] {
            say(all[0], &["CLUSTER", "MEET", "127.0.0.1", &other.port.to_string()]);
        }
        let count = format!("cluster_known_nodes:{}\r", all.len());
        let knows = |server: &Server| text(server, &["CLUSTER", "INFO"]).contains(&count);
        until("all nodes know each other", || all.iter().all(|server| knows(server)));
        for (primary, replica) in here.primaries.iter().zip(&here.replicas) {
            let id = text(primary, &["CLUSTER", "MYID"]);
            // It may not know yet that this one is a primary.
            until("a replica is one", || {
                let mut cmd = redis::cmd("CLUSTER");
                cmd.arg("REPLICATE").arg(&id);
                cmd.query::<()>(&mut replica.connection()).is_ok()
            });
        }
        until("the replicas follow", || here.replicas.iter().all(follows));
        let ok = |server: &Server| text(server, &["CLUSTER", "INFO"]).contains("cluster_state:ok");
        until("all nodes see the cluster whole", || all.iter().all(|server| ok(server)));
        let seen = |server: &Server| text(server, &["CLUSTER", "NODES"]).matches("slave ").count();
        until("all nodes know the replicas", || all.iter().all(|server| seen(server) == here.replicas.len()));
        Some(here)
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> =
            self.primaries.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The number of the primary that serves a key, and its slot.
    pub(crate) fn owner(&self, key: &str) -> (usize, u16) {
        let slot: u16 =
            redis::from_redis_value(say(&self.primaries[0], &["CLUSTER", "KEYSLOT", key])).unwrap();
        (usize::from(slot > 5460) + usize::from(slot > 10922), slot)
    }

    pub(crate) fn id(&self, at: usize) -> String {
        text(&self.primaries[at], &["CLUSTER", "MYID"])
    }
}
