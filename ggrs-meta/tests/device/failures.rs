//! What members' failures become: errors that name the member, and a device that goes on where it can.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ggrs_core::device::{Device, Precision, Runner, WeightSource};
use ggrs_core::plan::{PlanOptions, plan};
use ggrs_core::{BindError, DType, DeviceError, ExecError, PlanError};
use ggrs_meta::{HostTransport, MetaDevice};

use crate::faulty::{Fault, Switch, faulty};
use crate::mlp::{K, T, bound, members, mlp, numbers, options, planned, to_bytes};

/// Two members that can be told to fail.
fn two(patience: Duration) -> (Arc<MetaDevice>, Vec<Arc<Switch>>) {
    let (members, switches): (Vec<_>, Vec<_>) = members(2).into_iter().map(faulty).unzip();
    let transport = Arc::new(HostTransport);
    let device = MetaDevice::with_transport(members, options(&[1.0, 1.0]), transport, patience);
    (device.unwrap(), switches)
}

fn runner(device: &dyn Device) -> Runner {
    let plan = planned(device, &mlp(DType::F32), Precision::Exact);
    let mut runner = Runner::new(device, &plan, &bound(device, &plan)).unwrap();
    runner.set("x", &to_bytes(&numbers(T * K, 5))).unwrap();
    runner
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_refusal_names_the_member() {
    let (device, switches) = two(LONG);
    switches[1].set(Fault::RefusesMatMul);
    let error = plan(&mlp(DType::F32), &*device, &PlanOptions::default()).unwrap_err();
    let PlanError::Member { member, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(member, "member 1 (cpu:1/2)");
    assert!(
        error.source().unwrap().to_string().contains("goodwill"),
        "{error}"
    );
}

#[test]
fn memory_that_is_not_there_names_the_member() {
    let (device, switches) = two(LONG);
    let plan = planned(&*device, &mlp(DType::F32), Precision::Exact);
    let bindings = bound(&*device, &plan);
    switches[1].set(Fault::NoMemory);
    match device.compile(&plan, &bindings).err().unwrap() {
        BindError::Member { member, .. } => assert_eq!(member, "member 1 (cpu:1/2)"),
        other => panic!("{other}"),
    }
    let bytes = vec![0; plan.weights[0].desc.bytes().unwrap()];
    let source = WeightSource {
        bytes: &bytes,
        owner: None,
    };
    let error = device.load_weight(&plan.weights[0], source).err().unwrap();
    assert!(
        matches!(&error, DeviceError::Lost { device, .. } if device == "cpu:1/2"),
        "{error}"
    );
    assert!(device.alloc_state(&plan.states[0]).is_err());
    switches[1].set(Fault::None);
    assert!(device.compile(&plan, &bindings).is_ok());
}

#[test]
fn a_run_that_fails_on_a_member_can_be_tried_again() {
    let (device, switches) = two(LONG);
    let mut runner = runner(&*device);
    runner.run().unwrap();
    let expected = runner.get("logits").unwrap();
    for failing in [vec![0], vec![1], vec![0, 1]] {
        for i in &failing {
            switches[*i].set(Fault::RunFails);
        }
        let error = runner.run().unwrap_err();
        let name = format!("member {0} (cpu:{0}/2)", failing[0]);
        assert!(
            matches!(&error, ExecError::Member { member, .. } if *member == name),
            "{error}"
        );
        for i in &failing {
            switches[*i].set(Fault::None);
        }
        runner.run().unwrap();
        assert_eq!(runner.get("logits").unwrap(), expected);
    }
}

#[test]
fn a_failed_exchange_names_all_members_and_can_be_tried_again() {
    let (device, switches) = two(LONG);
    let mut runner = runner(&*device);
    runner.run().unwrap();
    let expected = runner.get("logits").unwrap();
    for fault in [Fault::DownloadFails, Fault::UploadFails] {
        switches[1].set(fault);
        let error = runner.run().unwrap_err();
        let ExecError::Collective {
            op,
            members,
            transport,
            source,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((*op, *transport), ("all_reduce", "host"));
        assert_eq!(members, &["member 0 (cpu:0/2)", "member 1 (cpu:1/2)"]);
        assert!(source.to_string().contains("cpu:1/2"), "{error}");
        switches[1].set(Fault::None);
        runner.run().unwrap();
        assert_eq!(runner.get("logits").unwrap(), expected);
    }
}

#[test]
fn a_panic_is_contained_and_the_plan_says_so_ever_after() {
    for culprit in [0, 1] {
        let (device, switches) = two(LONG);
        let mut runner = runner(&*device);
        switches[culprit].set(Fault::RunPanics);
        let error = runner.run().unwrap_err();
        let name = format!("member {culprit} (cpu:{culprit}/2)");
        let ExecError::Member { member, source } = &error else {
            panic!("{error}");
        };
        assert_eq!(*member, name);
        let lost = ExecError::Device(DeviceError::Lost {
            device: name,
            cause: "told to".to_owned(),
        });
        assert_eq!(**source, lost);
        switches[culprit].set(Fault::None);
        let again = runner.run().unwrap_err();
        assert!(
            matches!(&again, ExecError::Broken { source, .. } if **source == error),
            "{again}"
        );
        // The device itself goes on.
        self::runner(&*device).run().unwrap();
    }
}

#[test]
fn a_member_that_hangs_is_given_up_in_time() {
    let (device, switches) = two(Duration::from_millis(200));
    let mut runner = runner(&*device);
    runner.run().unwrap();
    switches[1].set(Fault::RunHangs);
    let start = Instant::now();
    let error = runner.run().unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(200));
    let ExecError::Member { member, source } = &error else {
        panic!("{error}");
    };
    assert_eq!(member, "member 1 (cpu:1/2)");
    assert!(matches!(
        **source,
        ExecError::Device(DeviceError::Timeout { waited_ms: 200, .. })
    ));
    assert!(matches!(runner.run(), Err(ExecError::Broken { .. })));
    assert!(matches!(
        runner.executable().capture(),
        Err(ExecError::Broken { .. })
    ));
    runner.executable().release_capture();
    // It hangs still: neither this nor the end waits for it.
    drop(runner);
    assert!(start.elapsed() < LONG);
    switches[1].set(Fault::None);
}
