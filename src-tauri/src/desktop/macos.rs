//! What only macOS has, and the only Objective-C of the project: the question whether the app may end, staying awake
//! while something runs, sleep, and memory pressure.
//!
//! It has been compiled and linked for macOS but not been run on one; `docs/MACOS.md` says what to look at there.
//!
//! tao's application delegate does not answer `applicationShouldTerminate:`, so that Dock Quit, the quit Apple event,
//! logout and restart end a Tauri app without asking (tauri #9198). [`install`] gives its class that one method; what
//! is answered is decided in `termination.rs`, which every system tests.
//!
//! Everything here happens on the main thread, which AppKit demands; other threads send closures to the main queue.
//! That queue is also served in the modal loop in which AppKit awaits a promised answer, where Tauri's own events
//! may not be.
#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell};
use std::ffi::c_char;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use block2::RcBlock;
use dispatch2::{
    _dispatch_source_type_memorypressure, DispatchObject, DispatchQueue, DispatchSource, DispatchTime,
    dispatch_source_memorypressure_flags_t as Pressure,
};
use engine::{State, Stats};
use objc2::rc::Retained;
use objc2::runtime::{AnyClass, AnyObject, Imp, NSObjectProtocol, ProtocolObject, Sel};
use objc2::{MainThreadMarker, ffi, msg_send, sel};
use objc2_app_kit::{
    NSApplication, NSWorkspace, NSWorkspaceAccessibilityDisplayOptionsDidChangeNotification,
    NSWorkspaceDidWakeNotification, NSWorkspaceWillSleepNotification,
};
use objc2_foundation::{
    NSActivityOptions, NSAppleEventDescriptor, NSAppleEventManager, NSNotification, NSNotificationName,
    NSProcessInfo, NSString,
};

use super::host::Host;
use super::motion::{Hearer, Motion};
use super::quit::{Asker, is_busy};
use super::termination::{Reply, Surroundings, Termination, asker};

/// `kAEQuitReason`: the attribute of a quit Apple event that says why, four characters as a number.
const QUIT_REASON: u32 = u32::from_be_bytes(*b"why?");
/// How often it is looked at whether something runs.
const LOOK: Duration = Duration::from_secs(1);

thread_local! {
    /// The delegate's flow, on the main thread; other threads have an empty one.
    static TERMINATION: OnceCell<Termination<Cocoa>> = const { OnceCell::new() };
    /// The assertion that keeps the Mac awake, on the main thread.
    static AWAKE: Cell<Option<Activity>> = const { Cell::new(None) };
}

type Activity = Retained<ProtocolObject<dyn NSObjectProtocol>>;

/// Take part in how macOS ends, sleeps and runs out of memory. Called once, in the event loop's first turn, when
/// tao's delegate is in place.
pub(crate) fn install(host: &Arc<Host>) {
    let Some(main_thread) = MainThreadMarker::new() else {
        tracing::error!("not on the main thread: macOS will end this app without asking");
        return;
    };
    let surroundings = Cocoa { host: Arc::clone(host), main_thread };
    // Empty until now: this function is called once.
    let _ = TERMINATION.with(|cell| cell.set(Termination::new(surroundings)));
    answer_should_terminate(main_thread);
    opt_out_of_termination();
    tell_sleep_and_wake();
    tell_memory_pressure();
    tauri::async_runtime::spawn(follow(Arc::clone(host)));
}

/// The application, as the delegate's flow sees it.
struct Cocoa {
    host: Arc<Host>,
    main_thread: MainThreadMarker,
}

impl Surroundings for Cocoa {
    fn engine(&self) -> (State, Stats) {
        let stopped = (State::Stopped, Stats::default());
        self.host.serving().map_or(stopped, |serving| (serving.engine.state(), serving.engine.stats()))
    }

    fn drain_timeout(&self) -> Duration {
        self.host.settings().drain_timeout
    }

    fn begin_drain(&self, timeout: Duration) {
        self.host.begin_drain(timeout);
    }

    fn reply(&self) {
        NSApplication::sharedApplication(self.main_thread).replyToApplicationShouldTerminate(true);
    }

    fn wake_after(&self, wait: Duration) {
        let when = DispatchTime::try_from(wait).unwrap_or(DispatchTime::NOW);
        let woken = DispatchQueue::main().after(when, || with_termination(Termination::time_is_up));
        if woken.is_err() {
            tracing::error!("no timer could be set: an engine that hangs would hold up the shutdown");
        }
    }
}

fn with_termination(act: impl FnOnce(&Termination<Cocoa>)) {
    TERMINATION.with(|cell| cell.get().map(act));
}

/// Give the delegate's class the method that it lacks.
fn answer_should_terminate(main_thread: MainThreadMarker) {
    let application = NSApplication::sharedApplication(main_thread);
    let Some(delegate) = application.delegate() else {
        tracing::error!("there is no application delegate: macOS will end this app without asking");
        return;
    };
    let object: &AnyObject = delegate.as_ref();
    let class: *const AnyClass = object.class();
    // The type that class_addMethod wants says nothing about arguments; the encoding below does.
    // SAFETY: both are function pointers, and the runtime calls the method as the encoding says.
    let method = unsafe { mem::transmute::<ShouldTerminate, Imp>(should_terminate) };
    // NSUInteger (Q) from the receiver (@), the selector (:) and the sender (@), as AppKit declares it.
    let encoding: *const c_char = c"Q@:@".as_ptr();
    // SAFETY: the class is registered and the runtime locks it; adding a method that the class itself lacks changes
    // no other, and where it has one the call does nothing and says so. The encoding is the method's.
    let added = unsafe {
        ffi::class_addMethod(class.cast_mut(), sel!(applicationShouldTerminate:), method, encoding)
    };
    if !added.as_bool() {
        tracing::error!("the delegate answers by itself whether the app may end; the engine is not asked");
        return;
    }
    // AppKit asks a delegate only when it is set which methods it has. `delegate` keeps it alive in between.
    application.setDelegate(None);
    application.setDelegate(Some(&delegate));
}

type ShouldTerminate = extern "C-unwind" fn(NonNull<AnyObject>, Sel, *mut AnyObject) -> usize;

/// `applicationShouldTerminate:`. Nothing in it unwinds: the flow catches panics, and a panic while the reason is read
/// lets the app end.
extern "C-unwind" fn should_terminate(
    _delegate: NonNull<AnyObject>,
    _selector: Sel,
    _sender: *mut AnyObject,
) -> usize {
    let answered = std::panic::catch_unwind(|| {
        let who = who_asks();
        let reply = TERMINATION.with(|cell| cell.get().map_or(Reply::Now, |flow| flow.should_terminate(who)));
        tracing::info!(?who, ?reply, "macOS asks whether the app may end");
        reply
    });
    answered.unwrap_or(Reply::Now) as usize
}

/// The user, unless the Apple event being handled says otherwise; Cmd-Q and the menus send none.
fn who_asks() -> Asker {
    let event = NSAppleEventManager::sharedAppleEventManager().currentAppleEvent();
    let reason = event.and_then(|event| {
        // SAFETY: the method takes an AEKeyword, which is an unsigned 32-bit number, and returns a descriptor or nil,
        // not owned; `msg_send!` retains it. The typed binding would pull in another framework's crate for the number.
        let reason: Option<Retained<NSAppleEventDescriptor>> =
            unsafe { msg_send![&event, attributeDescriptorForKeyword: QUIT_REASON] };
        reason
    });
    // Apple's own samples read it as a type, others as an enumeration; what does not fit reads as zero.
    asker(reason.map(|reason| match reason.typeCodeValue() {
        0 => reason.enumCodeValue().to_be_bytes(),
        code => code.to_be_bytes(),
    }))
}

/// Info.plist says the same; this also holds for an executable that runs outside a bundle.
fn opt_out_of_termination() {
    let process = NSProcessInfo::processInfo();
    process.disableAutomaticTermination(&NSString::from_str("Samovar serves without a window"));
    process.disableSuddenTermination();
    // Never ended, so that requests do not wait for an app that naps. The Mac may sleep.
    let options = NSActivityOptions::UserInitiatedAllowingIdleSystemSleep;
    let activity = process.beginActivityWithOptions_reason(options, &NSString::from_str("Samovar serves"));
    mem::forget(activity);
}

/// Keep the Mac from idle sleep while something runs, and tell the flow what the engine does.
async fn follow(host: Arc<Host>) {
    let mut stage = host.watch();
    let mut was_busy = false;
    loop {
        let serving = host.serving();
        let busy =
            serving.as_ref().is_some_and(|serving| is_busy(&serving.engine.state(), &serving.engine.stats()));
        if busy != was_busy {
            was_busy = busy;
            DispatchQueue::main().exec_async(move || stay_awake(busy));
        }
        DispatchQueue::main().exec_async(|| with_termination(Termination::state_changed));
        let state_changed = async {
            if let Some(serving) = &serving
                && serving.engine.watch_state().changed().await.is_ok()
            {
                return;
            }
            // Nothing is served, or the engine is gone: the stage says what comes next.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = state_changed => {}
            changed = stage.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn stay_awake(awake: bool) {
    let process = NSProcessInfo::processInfo();
    let reason = NSString::from_str("Samovar answers a request");
    let next =
        awake.then(|| process.beginActivityWithOptions_reason(NSActivityOptions::UserInitiated, &reason));
    if let Some(ended) = AWAKE.replace(next) {
        // SAFETY: it is what `beginActivityWithOptions:reason:` returned, and it is ended once: it has left the cell.
        unsafe { process.endActivity(&ended) };
    }
}

/// Nothing needs doing: the clock of deadlines stands still while the Mac sleeps, and what runs goes on afterwards.
/// The log says so, because clients see a pause.
fn tell_sleep_and_wake() {
    // SAFETY: both are constants of AppKit.
    let (sleep, wake) = unsafe { (NSWorkspaceWillSleepNotification, NSWorkspaceDidWakeNotification) };
    observe(sleep, || tracing::info!("the Mac goes to sleep; what runs pauses"));
    observe(wake, || tracing::info!("the Mac is awake again; what ran goes on"));
}

/// Tell what the user wants, now and whenever a setting for how things are shown has changed.
pub(crate) fn listen_for_motion(tell: Hearer) {
    let tell = move || {
        let is_still = NSWorkspace::sharedWorkspace().accessibilityDisplayShouldReduceMotion();
        tell(if is_still { Motion::Still } else { Motion::Moving });
    };
    tell();
    // SAFETY: a constant of AppKit.
    observe(unsafe { NSWorkspaceAccessibilityDisplayOptionsDidChangeNotification }, tell);
}

fn observe(name: &NSNotificationName, tell: impl Fn() + Send + 'static) {
    let center = NSWorkspace::sharedWorkspace().notificationCenter();
    let block = RcBlock::new(move |_: NonNull<NSNotification>| tell());
    // SAFETY: any sender will do, no queue means the poster's thread, and the block may be sent there: what it has
    // captured is Send and lives as long as the block.
    let observer =
        unsafe { center.addObserverForName_object_queue_usingBlock(Some(name), None, None, &block) };
    // The centre keeps it until it is removed, which is never.
    mem::forget(observer);
}

/// The log names each change, so that a slow answer can be told from a machine without memory.
fn tell_memory_pressure() {
    let mask = Pressure::DISPATCH_MEMORYPRESSURE_NORMAL.0
        | Pressure::DISPATCH_MEMORYPRESSURE_WARN.0
        | Pressure::DISPATCH_MEMORYPRESSURE_CRITICAL.0;
    // SAFETY: the type is a constant of the system, this type takes no handle, and the mask is made of its flags.
    let source = unsafe {
        let kind = ptr::addr_of!(_dispatch_source_type_memorypressure).cast_mut();
        DispatchSource::new(kind, 0, mask as usize, Some(DispatchQueue::main()))
    };
    let in_handler = source.clone();
    let block = RcBlock::new(move || match Pressure(in_handler.data() as _) {
        Pressure::DISPATCH_MEMORYPRESSURE_CRITICAL => {
            tracing::error!("memory pressure is critical; macOS may end apps");
        }
        Pressure::DISPATCH_MEMORYPRESSURE_WARN => tracing::warn!("memory pressure is high"),
        _ => tracing::info!("memory pressure is normal again"),
    });
    // SAFETY: the source copies the block and runs it on the main queue only.
    unsafe { source.set_event_handler_with_block(RcBlock::as_ptr(&block)) };
    source.resume();
    // The block keeps the source and the source the block: both last as long as the process.
}
