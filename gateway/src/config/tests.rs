use super::*;
use std::path::PathBuf;

const MACHINE: Machine = Machine { cores: 2, files: 20_000 };

fn layers(pairs: &[(&str, &str, Origin)]) -> Layers {
    let mut layers = Layers::default();
    layers.set("dev", "true".into(), Origin::File).unwrap();
    for (key, value, origin) in pairs {
        layers.set(key, (*value).to_owned(), *origin).unwrap();
    }
    layers
}

fn config(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let pairs: Vec<_> = pairs.iter().map(|(k, v)| (*k, *v, Origin::Flag)).collect();
    Config::new(&layers(&pairs), &MACHINE)
}

fn line(pairs: &[(&str, &str)]) -> String {
    let line = config(pairs).unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringpost-config-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_defaults_are_within_their_bounds() {
    let config = config(&[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:7600");
    assert_eq!(config.max_sessions, 30_000);
    assert!(config.allowed_origins.is_empty() && config.token_keys.is_none());
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let file = File::new("precedence", "dev = true\nnode = \"file\"\nworker = 1\nshards = 3\n");
    let mut layers = Layers::default();
    layers.set("node", "flag".into(), Origin::Flag).unwrap();
    let variables = [("RINGPOST_NODE", "variable"), ("RINGPOST_WORKER", "2"), ("PATH", "x")];
    layers.environment(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))).unwrap();
    layers.file(&file.0).unwrap();
    let config = Config::new(&layers, &MACHINE).unwrap();
    assert_eq!((config.node.as_str(), config.worker, config.shards), ("flag", 2, 3));
    assert_eq!(config.heartbeat_ms, 30_000);
    assert_eq!(layers.origin("node"), Origin::Flag);
    assert_eq!(layers.origin("heartbeat_ms"), Origin::Default);
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest() {
    let file = File::new("unknown", "max_sesions = 5\n");
    let error = Layers::default().file(&file.0).unwrap_err().to_string();
    assert_eq!(
        error,
        "unknown configuration key \"max_sesions\" in the configuration file; did you mean \"max_sessions\"?"
    );
    let error = Layers::default().environment([("RINGPOST_LISTN".into(), "x".into())].into_iter()).unwrap_err();
    assert!(error.to_string().contains("\"listen\""), "{error}");
    let far = File::new("far", "zzz = 5\n");
    let error = Layers::default().file(&far.0).unwrap_err().to_string();
    assert_eq!(error, "unknown configuration key \"zzz\" in the configuration file");
}

#[test]
fn variables_of_orchestrators_are_left_alone() {
    let foreign = [
        "RINGPOST_SERVICE_HOST",
        "RINGPOST_PORT",
        "RINGPOST_PORT_7600_TCP",
        "RINGPOST_ADMIN_PORT",
        "RINGPOST_ADMIN_SERVICE_HOST",
        "RINGPOST_CONFIG",
    ];
    let mut layers = Layers::default();
    layers.environment(foreign.iter().map(|name| ((*name).to_owned(), "x".to_owned()))).unwrap();
}

#[test]
fn a_value_out_of_bounds_is_named_with_its_bounds() {
    assert_eq!(line(&[("max_sessions", "0")]), "max_sessions = \"0\" on the command line: must be 1 to 16000000");
    assert!(line(&[("cq_entries", "5000")]).contains("power of two"));
    for (key, value) in [
        ("listen", "localhost"),
        ("max_sessions", "-1"),
        ("max_sessions", "many"),
        ("dev", "yes"),
        ("node", ""),
        ("node", "a\nb"),
        ("data", ""),
        ("worker", "8192"),
    ] {
        assert!(line(&[(key, value)]).starts_with(key), "{key}");
    }
}

#[test]
fn every_number_is_refused_just_outside_its_bounds() {
    use super::value::Bounds;
    for setting in SETTINGS {
        let (Bounds::Range(from, to) | Bounds::PowerOfTwo(from, to)) = setting.bounds else { continue };
        let outside = [from.checked_sub(1), to.checked_add(1)];
        for number in outside.into_iter().flatten() {
            assert!(line(&[(setting.key, &number.to_string())]).starts_with(setting.key), "{} {number}", setting.key);
        }
    }
}

#[test]
fn relations_are_asserted() {
    assert!(line(&[("listen", "0.0.0.0:7600")]).contains("loopback"));
    assert!(line(&[("dev", "false")]).contains("token_keys"));
    assert!(line(&[("admin", "127.0.0.1:7600")]).contains("both"));
    let proxied = |address, proxies| line(&[("listen_proxied", address), ("trusted_proxies", proxies)]);
    assert!(proxied("127.0.0.1:7602", "").contains("trusted_proxies"));
    assert!(proxied("0.0.0.0:7602", "10.0.0.0/8").contains("listen_proxied is 0.0.0.0:7602"));
    assert!(proxied("127.0.0.1:7601", "10.0.0.0/8").contains("admin and listen_proxied are both"));
    assert!(line(&[("max_sessions", "100000"), ("shards", "2")]).contains("RLIMIT_NOFILE"));
    assert!(line(&[("window_bytes", "1048576")]).contains("outbox_bytes"));
    assert!(line(&[("sq_entries", "32768")]).contains("cq_entries"));
    for origin in ["chat.example", "https://", "https://chat.example/", "ftp://chat.example"] {
        assert!(line(&[("allowed_origins", origin)]).contains("allowed_origins"), "{origin}");
    }
    config(&[("dev", "false"), ("token_keys", "keys.toml"), ("listen", "0.0.0.0:7600")]).unwrap();
    config(&[("listen", "127.0.0.1:0"), ("admin", "127.0.0.1:0")]).unwrap();
    config(&[("listen_proxied", "127.0.0.1:0"), ("trusted_proxies", "10.0.0.0/8")]).unwrap();
}

#[test]
fn too_many_sessions_are_refused_with_what_can_be_done() {
    let refused = |shards: &str| {
        let pairs = [("max_sessions", "30000", Origin::Flag), ("shards", shards, Origin::Flag)];
        Config::new(&layers(&pairs), &Machine { cores: 2, files: 20 }).unwrap_err().to_string()
    };
    for shards in ["0", "4"] {
        let line = refused(shards);
        assert!(line.contains("raise the limit, lower max_sessions"), "{line}");
        assert_eq!(line.contains("set shards = 0"), shards != "0", "{line}");
    }
}

#[test]
fn shards_follow_cores_and_the_limit_of_files() {
    let derived = |sessions: &str, machine: Machine| {
        Config::new(&layers(&[("max_sessions", sessions, Origin::Flag)]), &machine).unwrap().derived
    };
    let few = derived("30000", MACHINE);
    assert_eq!((few.shards, few.pinned), (2, true));
    let many = derived("1000000", MACHINE);
    assert_eq!((many.shards, many.pinned), (59, false));
    let roomy = derived("1000000", Machine { cores: 8, files: 1 << 30 });
    assert_eq!((roomy.shards, roomy.pinned), (8, true));
    for derived in [few, many, roomy] {
        let room = u64::from(derived.shards) * u64::from(derived.sessions_per_shard);
        assert!(room >= 30_000 && derived.descriptors_per_shard >= derived.sessions_per_shard);
    }
}

#[test]
fn many_shards_have_smaller_queues_unless_others_are_asked_for() {
    let queues = |pairs: &[(&'static str, &'static str)]| {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (*key, *value, Origin::Flag)).collect();
        let config = Config::new(&layers(&pairs), &MACHINE).unwrap();
        (config.sq_entries, config.cq_entries, config.inbox_entries)
    };
    assert_eq!(queues(&[]), (1_024, 16_384, 4_096));
    assert_eq!(queues(&[("max_sessions", "1000000")]), (256, 4_096, 1_024));
    assert_eq!(queues(&[("max_sessions", "1000000"), ("cq_entries", "8192")]), (256, 8_192, 1_024));
    assert_eq!(queues(&[("max_sessions", "1000000"), ("sq_entries", "8192")]), (8_192, 8_192, 1_024));
}

#[test]
fn what_config_prints_reads_back_as_the_same() {
    let layers = layers(&[
        ("allowed_origins", "https://a.example, https://b.example", Origin::Flag),
        ("node", "a\"b", Origin::File),
    ]);
    let config = Config::new(&layers, &MACHINE).unwrap();
    let text = show::show(&config, &layers, &MACHINE);
    let file = File::new("show", &text);
    let mut again = Layers::default();
    again.file(&file.0).unwrap();
    assert_eq!(Config::new(&again, &MACHINE).unwrap().settings, config.settings);
    for setting in SETTINGS {
        assert!(
            text.contains(&setting.variable()) && text.contains(&format!("--{}", setting.flag())),
            "{}",
            setting.key
        );
    }
}

#[test]
fn a_bad_file_is_one_line() {
    for text in ["listen = ", "[listen]\na = 1", "listen = 1.5", "a b", "node = \"\nx\""] {
        let file = File::new("bad", text);
        let error = Layers::default().file(&file.0).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
    }
    let absent = Layers::default().file("/nonexistent/ringpost.toml".as_ref()).unwrap_err();
    assert!(absent.to_string().contains("/nonexistent/ringpost.toml"));
}

#[test]
fn development_does_not_limit_loopback_unless_others_are_exempt() {
    let exempt = |pairs: &[(&'static str, &str)]| {
        config(pairs).unwrap().exempt_addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(exempt(&[]), ["127.0.0.0/8", "::1/128"]);
    assert_eq!(exempt(&[("exempt_addresses", "10.0.0.0/8, 192.0.2.7")]), ["10.0.0.0/8", "192.0.2.7/32"]);
    assert!(exempt(&[("exempt_addresses", "")]).is_empty());
    assert!(line(&[("trusted_proxies", "10.0.0.1/8")]).starts_with("trusted_proxies"));
}

#[test]
fn development_has_no_rates_but_those_that_were_asked_for() {
    let dev = config(&[("sends_per_second", "7")]).unwrap();
    assert_eq!((dev.sends_per_second, dev.user_sends_per_second, dev.requests_per_second), (7, 0, 0));
    assert_eq!(dev.new_conversations_per_day, 0);
    let others = Layers::default();
    let serving = Config::unasserted(&others, &MACHINE).unwrap();
    assert_eq!((serving.sends_per_second, serving.user_sends_per_second, serving.requests_per_second), (30, 60, 100));
    assert_eq!(serving.new_conversations_per_day, 20);
}
