#!/usr/bin/env python3
"""Streams a WAV file to callwarden as a live call and prints what it finds.

    stream.py call.wav --to 127.0.0.1:8082

The file has 16-bit, A-law or mu-law samples; of two channels the left one is
the caller. How the modules callwarden.v1 are made is in README.md.
"""

import argparse
import struct
import sys
import time

import grpc

from callwarden.v1 import call_pb2, call_pb2_grpc, events_pb2, transcribe_pb2

MESSAGE = 0.02  # seconds of audio in each


# Formats of WAV files, with the bytes of a sample.
FORMATS = {
    (1, 16): (transcribe_pb2.AUDIO_ENCODING_LINEAR16, 2),
    (6, 8): (transcribe_pb2.AUDIO_ENCODING_PCMA, 1),
    (7, 8): (transcribe_pb2.AUDIO_ENCODING_PCMU, 1),
}


def read_wav(path):
    """Returns the encoding, bytes of a sample, rate, channels and data of a WAV file."""
    with open(path, "rb") as file:
        riff = file.read()
    at, form = 12, None
    while riff[:4] == b"RIFF" and at + 8 <= len(riff):
        name, size = struct.unpack_from("<4sI", riff, at)
        if name == b"fmt ":
            form = struct.unpack_from("<HHIIHH", riff, at + 8)  # tag, channels, rate, bytes a second, block, bits
        if name == b"data" and form and (form[0], form[5]) in FORMATS and form[1] in (1, 2):
            return *FORMATS[form[0], form[5]], form[2], form[1], riff[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    sys.exit(f"{path}: a WAV file of 16-bit, A-law or mu-law samples in one or two channels is wanted")


def requests(args):
    """Yields open, then the audio at the pace of speech."""
    encoding, width, rate, channels, data = read_wav(args.file)
    legs = [events_pb2.LEG_UNSPECIFIED] if channels == 1 else [events_pb2.LEG_CALLER, events_pb2.LEG_CALLEE]
    yield call_pb2.StreamRequest(
        open=call_pb2.CallOpen(
            id=args.id,
            tenant=args.tenant,
            to=args.number,
            legs=legs,
            rate_hz=rate,
            encoding=encoding,
            wants=call_pb2.CallWants(transcripts=True),
            **{"from": args.caller},  # a word of Python's own
        )
    )
    begin, block, size = time.monotonic(), width * channels, int(rate * MESSAGE) * width * channels
    for n, at in enumerate(range(0, len(data), size)):
        part = data[at : at + size]
        audio = []
        for i, leg in enumerate(legs):  # interleaved: caller, callee, caller, callee
            samples = b"".join(part[k : k + width] for k in range(i * width, len(part), block))
            audio.append(call_pb2.CallAudio(leg=leg, samples=samples))
        yield call_pb2.StreamRequest(audio=audio)
        time.sleep(max(0.0, begin + (n + 1) * MESSAGE - time.monotonic()))
    yield call_pb2.StreamRequest(hang_up=call_pb2.CallHangUp())


def show(event):
    """Prints one event on one line."""
    kind = event.WhichOneof("data")
    if kind == "transcript":
        print(f"  {events_pb2.Leg.Name(event.transcript.leg)[4:].lower()}: {event.transcript.text}")
    elif kind == "finding":
        f = event.finding.finding
        print(f"  found {f.tactic}: \"{f.words}\" ({events_pb2.FindingState.Name(f.state)[14:].lower()})")
    elif kind == "level":
        print(f"{events_pb2.Level.Name(event.level.level)[6:]}: {event.level.advice.text}")
    elif kind == "status":
        print(f"  heard: {events_pb2.Hearing.Name(event.status.hearing)[8:].lower()} {event.status.reason}")
    elif kind == "ended":
        e = event.ended
        print(f"ended: {e.reason}, highest level {events_pb2.Level.Name(e.level)[6:]}, tactics {', '.join(e.tactics) or 'none'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--to", default="127.0.0.1:8082", help="HOST:PORT of callwarden")
    parser.add_argument("--token", help="bearer token")
    parser.add_argument("--tls-ca", help="PEM file of the authority that signed the server's certificate")
    parser.add_argument("--id", default="", help="the call's id")
    parser.add_argument("--tenant", default="")
    parser.add_argument("--caller", default="", help="the caller's number")
    parser.add_argument("--number", default="", help="the number that was called")
    args = parser.parse_args()

    metadata = [("authorization", f"Bearer {args.token}")] if args.token else None
    if args.tls_ca:
        with open(args.tls_ca, "rb") as ca:
            channel = grpc.secure_channel(args.to, grpc.ssl_channel_credentials(ca.read()))
    else:
        channel = grpc.insecure_channel(args.to)
    read_wav(args.file)  # what is wrong with it is said here: gRPC hides it
    with channel:
        service = call_pb2_grpc.CallServiceStub(channel)
        try:
            for response in service.Stream(requests(args), metadata=metadata):
                what = response.WhichOneof("response")
                if what == "opened":
                    print(f"call {response.opened.id} of tenant {response.opened.tenant} is listened to")
                elif what == "event":
                    show(response.event)
                elif what == "missed":
                    print(f"  {response.missed.events} events were missed: we read too slowly")
        except grpc.RpcError as err:
            sys.exit(f"{err.code().name}: {err.details()}")


if __name__ == "__main__":
    main()
