// SPDX-License-Identifier: GPL-2.0

//! The same struct in C: both sides read and write the same bytes, and refuse the same.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::versions::Inner;
use crate::sys::handover_struct;
use crate::sys::record::{At, Fault, Handover, Page, Ref};

handover_struct! {
    /// `struct record` of `in_c.c`.
    #[derive(Debug, PartialEq)]
    struct Record("tests-in-c") version 3 layouts [0x781851d8, 0xd0bd8a1e, 0xb84b01bf] {
        next: u64,
        small: i8,
        on: bool,
        name: [u8; 5],
        limit: Option<u16>,
        inner: At<Inner, 1>,
        page: Option<Ref<Page<Inner>>>,
        #[since(2, default = 7)]
        step: u64,
        #[since(3, default = [-2; 3])]
        levels: [i32; 3],
    }
}

prop_compose! {
    fn a_record()(
        (next, small, on) in any::<(u64, i8, bool)>(),
        (name, limit) in any::<([u8; 5], Option<u16>)>(),
        number: u32,
        page in any::<Option<(u64, u64)>>(),
        step in prop_oneof![Just(7), any::<u64>()],
        levels in prop_oneof![Just([-2; 3]), any::<[i32; 3]>()],
    ) -> Record {
        Record {
            next, small, on, name, limit,
            inner: At(Inner { number, level: -1 }),
            page: page.map(|(address, detail)| Ref::__new(address, detail)),
            step,
            levels,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

/// What C must answer to these bytes.
fn answer(bytes: &[u8]) -> String {
    let record = match Record::decode(bytes) {
        Ok(record) => record,
        Err(Fault::Version) => return format!("-{EPROTONOSUPPORT}"),
        Err(_) => return format!("-{EINVAL}"),
    };
    let mut text = bytes[4].to_string();
    for version in 1..=3 {
        let mut again = [0; 512];
        match record.encode_into(version, &mut again) {
            Ok(len) => write!(text, " {}", hex(&again[..len])),
            Err(_) => write!(text, " -{EOPNOTSUPP}"),
        }
        .expect("a String takes all");
    }
    text
}

// As the host's headers have them.
const EINVAL: i32 = 22;
const EPROTONOSUPPORT: i32 = 93;
const EOPNOTSUPP: i32 = 95;

/// Compiles the program, with all warnings as errors.
fn compile() -> std::path::PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = std::env::temp_dir().join(format!("liveupdate-in-c-{}", std::process::id()));
    let done = Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-I"])
        .arg(root.join("driver/c"))
        .arg(root.join("selftests/sim/records/in_c.c"))
        .arg(root.join("driver/c/liveupdate_record.c"))
        .arg("-o")
        .arg(&program)
        .output()
        .expect("this test needs a C compiler, cc");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    program
}

#[test]
fn c_reads_and_writes_the_same_bytes() {
    let mut runner = TestRunner::default();
    let mut inputs = Vec::new();
    for number in 0..2000 {
        let record = a_record().new_tree(&mut runner).expect("a value").current();
        let version = 1 + number % 3;
        let mut bytes = [0; 512];
        let Ok(len) = record.encode_into(version, &mut bytes) else {
            continue;
        };
        let mut bytes = bytes[..len].to_vec();
        // Some with a byte changed, some cut off.
        let place = any::<prop::sample::Index>().new_tree(&mut runner);
        let place = place.expect("a value").current().index(len);
        match number / 3 % 4 {
            0 => bytes[place] ^= 1 << (number % 8),
            1 => bytes.truncate(place),
            2 => bytes.push(9),
            _ => {}
        }
        inputs.push(bytes);
    }
    assert!(inputs.len() > 500);

    let program = compile();
    let mut child = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was compiled");
    let text: String = inputs.iter().map(|bytes| hex(bytes) + "\n").collect();
    let mut stdin = child.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("it runs");
    writer.join().expect("no panic").expect("it reads");
    std::fs::remove_file(program).expect("it is there");
    assert!(output.status.success());
    let answers = String::from_utf8(output.stdout).expect("it is text");
    assert_eq!(answers.lines().count(), inputs.len());
    let mut read = 0;
    for (bytes, said) in inputs.iter().zip(answers.lines()) {
        assert_eq!(said, answer(bytes), "{}", hex(bytes));
        read += usize::from(!said.starts_with('-'));
    }
    assert!(read > 500, "{read} records were read");
}

/// A table that does not fit its struct does not compile.
#[test]
fn the_table_is_checked_against_the_struct() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiles = |field: &str| {
        let source = format!(
            "#include \"liveupdate_record.h\"\n\
             struct s {{ u32 number; u8 bytes[4]; bool there; }};\n\
             const struct lu_record_field fields[] = {{ {field} }};\n"
        );
        let mut child = Command::new("cc")
            .args(["-std=gnu11", "-fsyntax-only", "-x", "c", "-", "-I"])
            .arg(root.join("driver/c"))
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs a C compiler, cc");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(source.as_bytes()).expect("it reads");
        drop(stdin);
        child.wait().expect("it runs").success()
    };
    assert!(compiles("LU_FIELD(struct s, number, U32)"));
    assert!(compiles("LU_ARRAY(struct s, bytes, U8)"));
    assert!(compiles("LU_OPTION(struct s, number, there, U32)"));
    assert!(!compiles("LU_FIELD(struct s, number, U64)"));
    assert!(!compiles("LU_FIELD(struct s, number, S32)"));
    assert!(!compiles("LU_FIELD(struct s, bytes, U32)"));
    assert!(!compiles("LU_ARRAY(struct s, bytes, U16)"));
    assert!(!compiles("LU_OPTION(struct s, number, bytes, U32)"));
    assert!(!compiles("LU_FIELD(struct s, nothing, U32)"));
}
