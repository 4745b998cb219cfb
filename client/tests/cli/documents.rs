//! Every document of `--json` has the shape that `shadowmesh schema` says, and no command is forgotten.

use crate::answered::play;
use crate::program::{Done, Home, refused, relay_ticket};
use serde_json::{Map, Value, json};
use shadowmesh::config::{NamesChoice, SessionsChoice};
use shadowmesh::control::message::{
    AdminEntry, Echo, Member, Members, Netcheck, NetcheckRelay, PathMoved, Request, Response, Revoked,
    Setting,
};
use shadowmesh::control::status::{
    Asleep, Cipher, Handshake, Membership, NameLeftOut, Names, Path, PathKind, Peer, PeerMember, PeerState,
    Relay, RulesInForce, StandbyPath, Status, Switch,
};
use std::fs;

/// What is wrong with `value` by `schema`, as far as schemas of ours go; a field that the schema does not name is wrong as well.
fn faults(schema: &Value, whole: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(reference) = schema.get("$ref") {
        let pointer = reference.as_str().expect("a reference").trim_start_matches('#');
        return faults(whole.pointer(pointer).expect("it is there"), whole, value, at, found);
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(choices) = schema.get(choice).and_then(Value::as_array) {
            let fits = choices.iter().any(|choice| {
                let mut found = Vec::new();
                faults(choice, whole, value, at, &mut found);
                found.is_empty()
            });
            if !fits {
                found.push(format!("{at}: {value} is none of {choices:?}"));
            }
        }
    }
    if schema.get("const").is_some_and(|only| only != value)
        || schema.get("enum").and_then(Value::as_array).is_some_and(|all| !all.contains(value))
    {
        found.push(format!("{at}: {value} is not {schema}"));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_of = |wanted: &Value| wanted == kind || (wanted == "number" && kind == "integer");
    if let Some(wanted) = schema.get("type")
        && !wanted.as_array().map_or_else(|| is_of(wanted), |any| any.iter().any(is_of))
    {
        found.push(format!("{at}: {value} is no {wanted}"));
    }
    if let Some(fields) = value.as_object() {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        for required in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if !fields.contains_key(required.as_str().expect("a name")) {
                found.push(format!("{at} has no {required}"));
            }
        }
        let is_choice = schema.get("anyOf").is_some() || schema.get("oneOf").is_some();
        for (name, value) in fields {
            match properties.get(name).or_else(|| schema.get("additionalProperties")) {
                Some(schema) => faults(schema, whole, value, &format!("{at}/{name}"), found),
                None if is_choice => {}
                None => found.push(format!("{at}/{name} is not in the schema")),
            }
        }
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        if let Some(schema) = schema.get("items") {
            faults(schema, whole, item, &format!("{at}/{n}"), found);
        }
    }
}

fn document(done: &Done) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

fn schemas() -> Map<String, Value> {
    let done = Home::new().run(&["schema"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    document(&done).as_object().expect("an object").clone()
}

fn status() -> Status {
    let path = Path {
        kind: PathKind::DirectUdp,
        remote: "r:1".into(),
        rtt_ms: Some(1.5),
        mtu: Some(1_400),
        loss_pct: None,
        why: "best".into(),
    };
    let switch = Switch {
        from: PathKind::RelayWs,
        to: PathKind::DirectUdp,
        reason: "better".into(),
        resent: 1,
        duplicates: 0,
        reordered: 0,
        lost: 0,
        gap_ms: Some(2.0),
        age_s: 3,
    };
    let peer = Peer {
        name: "b".into(),
        path: Some(path),
        standby: vec![StandbyPath { kind: PathKind::RelayUdp, remote: "r:1".into(), rtt_ms: None }],
        peer_path: Some(PathKind::DirectUdp),
        handshake: Some(Handshake {
            pattern: "p".into(),
            kem: "k".into(),
            cipher: Cipher::Aes256Gcm,
            age_s: 1,
            rekeys: 2,
            version: 1,
        }),
        member: Some(PeerMember { until: Some(1), ..PeerMember::default() }),
        tx_flooded: [("broadcast".to_owned(), 1)].into(),
        last_switch: Some(switch),
        next_direct_try_s: Some(1),
        ..Peer::default()
    };
    let asleep = Asleep { age_s: 7, last_path: PathKind::DirectUdp };
    let idle = Peer { state: PeerState::Idle, asleep: Some(asleep), ..Peer::default() };
    Status {
        relays: vec![Relay { url: "ws://r:1/v1".into(), rtt_ms: Some(1.0), ..Relay::default() }],
        peers: vec![peer, idle, Peer::default()],
        rules: Some(RulesInForce::default()),
        membership: Some(Membership::default()),
        dropped: [("forged".to_owned(), 1)].into(),
        names: Some(Names { left_out: vec![NameLeftOut::default()], ..Names::default() }),
        ..Status::default()
    }
}

fn answer(request: &Request) -> Response {
    match request {
        Request::Status => Response::Status(Box::new(status())),
        Request::Ping { .. } => {
            let via = PathKind::RelayWs;
            Response::Echo(Echo {
                name: "b".into(),
                id: "x".into(),
                address: None,
                via,
                remote: None,
                rtt_ms: 1.5,
                woken_ms: Some(2.5),
            })
        }
        Request::Netcheck => {
            let relay = NetcheckRelay {
                url: "r".into(),
                connected: true,
                rtt_ms: None,
                udp: Some(true),
                observed_udp: None,
            };
            Response::Netcheck(Box::new(Netcheck { relays: vec![relay], ..Netcheck::default() }))
        }
        Request::Path { wanted, .. } => Response::Path(PathMoved {
            name: "b".into(),
            id: "x".into(),
            wanted: *wanted,
            kind: Some(PathKind::RelayWs),
            remote: None,
            peer_path: None,
            took_ms: 1.0,
        }),
        Request::Reload => Response::Reloaded {
            rules: Some(RulesInForce::default()),
            names: Some(NamesChoice::On),
            sessions: Some(SessionsChoice::OnDemand),
            idle_after: Some("5m".into()),
            applied: vec![Setting { key: "name".into(), value: "a".into(), note: None }],
            waits: vec![Setting { key: "mtu".into(), value: "1300".into(), note: Some("it is".into()) }],
            restart: Some("x".into()),
        },
        Request::Down => Response::Leaving,
        Request::Invite { .. } => Response::Invite { ticket: "smi1x".into() },
        Request::Members => Response::Members(Box::new(Members {
            members: vec![Member { is_here: true, until: Some(1), ..Member::default() }],
            admins: vec![AdminEntry::default()],
            relays: vec!["r:1".into()],
            revoked: vec![Revoked::default()],
            ..Members::default()
        })),
        Request::AdminId { .. } => Response::AdminId { id: "x".into() },
        Request::Export => Response::Copy { text: "{}".to_owned().into() },
        Request::Change(_) => Response::Changed { sentence: "done".into() },
    }
}

/// Runs each and compares; the commands that were.
fn compare(home: &Home, schemas: &Map<String, Value>, cases: &[(&str, &[&str])]) -> Vec<String> {
    for (command, more) in cases {
        let args: Vec<&str> = command.split(' ').chain(more.iter().copied()).chain(["--json"]).collect();
        let done = home.run(&args);
        // A doctor says that there are faults by its exit code, too.
        assert!(done.code == Some(0) || *command == "doctor", "{args:?}: {done:?}");
        let (schema, mut found) = (&schemas[*command], Vec::new());
        faults(schema, schema, &document(&done), "", &mut found);
        assert!(found.is_empty(), "{command}: {}", found.join("\n"));
    }
    cases.iter().map(|(command, _)| (*command).to_owned()).collect()
}

#[test]
fn what_is_printed_has_the_shape_of_the_schema() {
    let (schemas, home, other) = (schemas(), Home::new(), Home::new());
    let (copy, rules, relay) = (home.path("copy"), home.path("rules"), relay_ticket());
    let (copy, rules) = (copy.to_str().expect("text"), rules.to_str().expect("text"));
    fs::write(rules, "allow any -> any\ndeny any -> any\n").expect("written");

    let playing = play(&home, |request| Some(answer(request)));
    let mut compared = compare(
        &home,
        &schemas,
        &[
            ("status", &[]),
            ("ping", &["b", "-c", "1"]),
            ("path", &["b", "--use", "auto"]),
            ("netcheck", &[]),
            ("doctor", &[]),
            ("invite", &[]),
            ("members", &[]),
            ("revoke", &["b"]),
            ("approve", &["b"]),
            ("rename", &["b", "c"]),
            ("tag", &["b", "x"]),
            ("rotate-secret", &[]),
            ("relays add", &["smr1x"]),
            ("relays remove", &["r:1"]),
            ("relays list", &[]),
            ("admins add", &["x", "--name", "b"]),
            ("admins remove", &["x"]),
            ("admins list", &[]),
            ("admins id", &[]),
            ("rules check", &[rules]),
            ("rules publish", &[rules]),
            ("rules show", &[]),
            ("reload", &[]),
        ],
    );
    playing.end();
    compared.extend(compare(
        &home,
        &schemas,
        &[
            ("down", &[]),
            ("network create", &["office", "--relay", &relay]),
            ("network export", &[copy]),
            ("leave", &["--discard-admin-key"]),
        ],
    ));
    compared.extend(compare(&other, &schemas, &[("network import", &[copy])]));
    other.stand_in(&["systemctl", "systemd-sysusers", "userdel", "groupdel"]);
    let image = other.image();
    let image = image.to_str().expect("text");
    compared.extend(compare(
        &other,
        &schemas,
        &[
            ("install", &["--root", image, "--program", "/usr/bin/shadowmesh"]),
            ("uninstall", &["--root", image, "--purge", "--yes"]),
        ],
    ));

    // It takes a device: the lab's `commands` compares it.
    compared.push("up".to_owned());
    compared.sort_unstable();
    let mut all: Vec<String> = schemas.keys().cloned().collect();
    all.sort_unstable();
    assert_eq!(compared, all, "each document was compared");
}

#[test]
fn another_shape_is_noticed() {
    let schemas = schemas();
    let schema = &schemas["ping"];
    let wrong = |document: Value| {
        let mut found = Vec::new();
        faults(schema, schema, &document, "", &mut found);
        found
    };
    let good =
        json!({ "peer": "b", "sent": 1, "received": 0, "loss_pct": 100.0, "rtt_ms": null, "replies": [] });
    assert_eq!(wrong(good.clone()), Vec::<String>::new());
    for (field, value) in
        [("sent", json!("1")), ("more", json!(1)), ("rtt_ms", json!({ "min": 1.0 })), ("replies", json!([1]))]
    {
        let mut document = good.clone();
        document[field] = value;
        assert!(!wrong(document.clone()).is_empty(), "{document}");
    }
    assert!(!wrong(json!({ "peer": "b" })).is_empty());
}

#[test]
fn one_schema_is_asked_for_by_the_commands_name() {
    let home = Home::new();
    let one = document(&home.run(&["schema", "network", "create"]));
    assert_eq!(one, schemas()["network create"]);
    assert!(one["properties"]["root"]["description"].is_string(), "{one}");
    refused(&home.run(&["schema", "statsu"]), "did you mean `status`?");
    refused(&home.run(&["schema", "config"]), "no command prints a document");
}
