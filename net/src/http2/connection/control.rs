//! Frames that carry no call: SETTINGS, PING, WINDOW_UPDATE, RST_STREAM, PRIORITY, GOAWAY (RFC 9113, 6).
//!
//! Leaves out HEADERS and DATA. Law: every answer that is written here costs the client a frame as
//! long, and those that gain it nothing are counted.
//!
//! Worked example: SETTINGS that lower the initial window by 10 lower every open stream's by 10, below
//! zero if need be, and are acknowledged.

use super::super::frame::{self, ACK, Head, MAX_31, Reason, number_31};
use super::*;
use holdfast_core::mutant;

/// Largest SETTINGS_MAX_FRAME_SIZE, and the most that is used of it.
const FRAME_MAX: u32 = (1 << 24) - 1;
const FRAME_USED_MAX: usize = 64 << 10;

impl Connection {
    pub(super) fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if head.stream != 0 {
            return Err(protocol("SETTINGS on a stream"));
        }
        if head.has(ACK) {
            if !payload.is_empty() {
                return Err(frame_size("an acknowledgement of SETTINGS with a payload"));
            }
            let first = self.phase == Phase::Settings;
            return if first {
                Err(protocol("the first SETTINGS are none"))
            } else {
                self.idle_frame()
            };
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(frame_size("SETTINGS of a length that is not a multiple of 6"));
        }
        if self.phase == Phase::Settings {
            self.phase = Phase::Open;
            self.clock.opened();
        } else {
            self.idle_frame()?;
        }
        let mut window = self.send_window_initial;
        for [name_high, name_low, value @ ..] in settings {
            let name = u16::from_be_bytes([*name_high, *name_low]);
            self.setting(name, u32::from_be_bytes(*value), &mut window)?;
        }
        self.set_initial_window(window)?;
        self.out.settings_ack();
        self.pump();
        Ok(())
    }

    fn setting(&mut self, name: u16, value: u32, window: &mut i64) -> Result<(), Broken> {
        match name {
            SETTINGS_HEADER_TABLE_SIZE => self.out.encoder.set_limit(value),
            SETTINGS_ENABLE_PUSH if value > 1 => {
                return Err(protocol("SETTINGS_ENABLE_PUSH is neither 0 nor 1"));
            }
            SETTINGS_INITIAL_WINDOW_SIZE if value > MAX_31 => {
                let text = "SETTINGS_INITIAL_WINDOW_SIZE is too large";
                return Err(broken(Reason::FlowControl, text));
            }
            SETTINGS_INITIAL_WINDOW_SIZE => *window = i64::from(value),
            SETTINGS_MAX_FRAME_SIZE if !(PAYLOAD_MAX as u32..=FRAME_MAX).contains(&value) => {
                return Err(protocol("SETTINGS_MAX_FRAME_SIZE is out of range"));
            }
            SETTINGS_MAX_FRAME_SIZE => self.frame_max = (value as usize).min(FRAME_USED_MAX),
            _ => {}
        }
        Ok(())
    }

    /// Moves the window of every open stream by the difference (6.9.2).
    fn set_initial_window(&mut self, window: i64) -> Result<(), Broken> {
        let by = window - self.send_window_initial;
        if by == 0 {
            return Ok(());
        }
        self.send_window_initial = window;
        for slot in self.slab.slots() {
            let Some(stream) = self.slab.get(slot) else { continue };
            stream.send_window += by;
            if stream.send_window > i64::from(MAX_31) {
                return Err(broken(
                    Reason::FlowControl,
                    "SETTINGS make a stream's window too large",
                ));
            }
            self.list(slot);
        }
        Ok(())
    }

    pub(super) fn ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if head.stream != 0 {
            return Err(protocol("PING on a stream"));
        }
        let Ok(data) = <[u8; 8]>::try_from(payload) else {
            return Err(frame_size("PING of a length other than 8"));
        };
        if head.has(ACK) {
            return self.pong(data);
        }
        frame::put_ping(&mut self.out.bytes, ACK, data);
        if self.pings.ping(self.now, self.slab.open() > 0) {
            return Ok(());
        }
        // The text that gRPC's clients look for.
        Err(calm("too_many_pings"))
    }

    pub(super) fn window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let Some((by, [])) = number_31(payload) else {
            return Err(frame_size("WINDOW_UPDATE of a length other than 4"));
        };
        if head.stream == 0 {
            self.send_window += i64::from(by);
            if by == 0 {
                return Err(protocol("WINDOW_UPDATE by nothing"));
            }
            if self.send_window > i64::from(MAX_31) {
                return Err(broken(Reason::FlowControl, "the connection's window is too large"));
            }
            self.pump();
            return Ok(());
        }
        self.check_begun(head.stream)?;
        let Some(slot) = self.slab.find(head.stream) else { return Ok(()) };
        let Some(stream) = self.slab.get(slot) else { return Ok(()) };
        stream.send_window += i64::from(by);
        if by == 0 {
            return self.reset(slot, Reason::Protocol);
        }
        if stream.send_window > i64::from(MAX_31) {
            return self.reset(slot, Reason::FlowControl);
        }
        self.list(slot);
        self.pump();
        Ok(())
    }

    pub(super) fn rst_stream(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if payload.len() != 4 {
            return Err(frame_size("RST_STREAM of a length other than 4"));
        }
        self.check_begun(head.stream)?;
        // It may have been answered meanwhile; when many deadlines pass at once, many cross so.
        if let Some(slot) = self.slab.find(head.stream) {
            if mutant::on(73) {
                self.ready.clear();
            }
            self.cancel(slot, false);
        }
        self.count_cancel()
    }

    /// Priorities mean nothing here; their form is checked (6.3).
    pub(super) fn priority(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if head.stream == 0 {
            return Err(protocol("PRIORITY without a stream"));
        }
        let reason = match number_31(payload) {
            Some((_, rest)) if rest.len() != 1 => Reason::FrameSize,
            None => Reason::FrameSize,
            Some((on, _)) if on == head.stream => Reason::Protocol,
            Some(_) => return self.idle_frame(),
        };
        match self.slab.find(head.stream) {
            Some(slot) => self.reset(slot, reason),
            None => Err(broken(reason, "a PRIORITY frame that is none")),
        }
    }

    pub(super) fn goaway(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if head.stream != 0 {
            return Err(protocol("GOAWAY on a stream"));
        }
        if payload.len() < 8 {
            return Err(frame_size("GOAWAY of a length below 8"));
        }
        // The client opens no more streams, waits for its answers, and closes.
        self.idle_frame()
    }

    /// Frames for a stream that was never begun break the connection (5.1, idle).
    pub(super) fn check_begun(&self, stream: u32) -> Result<(), Broken> {
        if stream == 0 {
            return Err(protocol("a stream's frame without a stream"));
        }
        if stream > self.last_id || stream.is_multiple_of(2) {
            return Err(protocol("a frame on a stream that was never begun"));
        }
        Ok(())
    }
}
