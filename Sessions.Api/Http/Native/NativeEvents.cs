using System.Buffers;
using System.Buffers.Text;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Engine.Streams;

namespace Sessions.Api.Http.Native;

/// <summary>The events of a turn as <c>POST /query</c> tells them: session, delta, done, error; and item, for what is no text.</summary>
/// <param name="turn">The turn.</param>
internal sealed class NativeEvents(StreamedTurn turn) : ITurnEventFormatter
{
    private const string IdHeader = "Last-Event-ID";

    private const int MaxDigits = 11;

    private readonly byte[] _id = Encoding.ASCII.GetBytes($"id: {turn.Id:N}:");
    private Utf8JsonWriter? _json;
    private bool _beginsMessage;

    /// <summary>The answer to an id of an event that never was.</summary>
    public static Error UnknownEvent { get; } = Error.InvalidField(IdHeader, "must be the id of an event of ours");

    /// <summary>Whether a request wants its answer as a stream: it says so, or accepts a stream and does not name JSON.</summary>
    public static bool AreWanted(QueryRequest request, HttpRequest http) =>
        request.Stream ?? (Accepts(http, "text/event-stream") && !Accepts(http, "application/json"));

    /// <summary>The event that a client saw last, if it comes back to a stream.</summary>
    /// <exception cref="DomainException">The header is none of ours.</exception>
    public static (Guid Stream, int Event)? Seen(IHeaderDictionary headers)
    {
        if (!headers.TryGetValue(IdHeader, out var values) || values is [] or [""])
        {
            return null;
        }

        var id = values.Count == 1 ? values[0]! : "";
        var colon = id.IndexOf(':', StringComparison.Ordinal);
        return colon > 0 && Guid.TryParseExact(id.AsSpan(0, colon), "N", out var stream)
            && int.TryParse(id.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            ? (stream, number)
            : throw new DomainException(UnknownEvent);
    }

    public IResult Refuse(Error error) => Problem.From(error);

    public void Write(IBufferWriter<byte> writer, int number, TurnEvent happened)
    {
        switch (happened)
        {
            case TurnBegun begun:
                var started = new StreamStarted(begun.SessionId, begun.Number, begun.SessionCreated);
                Write(writer, number, "session"u8, started, ApiJson.Wire.StreamStarted);
                break;
            case ItemAdded { Type: "message" }:
                _beginsMessage = true;
                break;
            case TextDelta delta:
                // As in the response: a line break between two messages, as before and after a tool has run.
                var follows = _beginsMessage && Enumerable.Range(0, number).Any(before => turn.Read(before, out _) is TextDelta);
                _beginsMessage = false;
                var text = follows ? delta.Text.After("\n"u8) : delta.Text;
                Write(writer, number, "delta"u8, new StreamDelta(text), ApiJson.Wire.StreamDelta);
                break;
            case ItemDone { Type: not "message" } done:
                Begin(writer, number, "item"u8);
                writer.Write(done.Item.Span);
                writer.Write("\n\n"u8);
                break;
            case TurnCompleted completed:
                Write(writer, number, "done"u8, QueryResponse.From(completed.Result), ApiJson.Wire.QueryResponse);
                break;
            case TurnFailed failed:
                Write(writer, number, "error"u8, Problem.From(failed.Error), ApiJson.Wire.Problem);
                break;
        }
    }

    // Most clients accept */* or nothing in particular; only what is named counts.
    private static bool Accepts(HttpRequest http, string mediaType) =>
        http.Headers.Accept.Count > 0
        && http.GetTypedHeaders().Accept.Any(accept => accept.MediaType.Equals(mediaType, StringComparison.OrdinalIgnoreCase));

    private void Write<T>(IBufferWriter<byte> writer, int number, ReadOnlySpan<byte> name, T data, JsonTypeInfo<T> type)
    {
        Begin(writer, number, name);
        _json ??= new Utf8JsonWriter(writer, new JsonWriterOptions { Encoder = type.Options.Encoder, SkipValidation = true });
        _json.Reset(writer);
        JsonSerializer.Serialize(_json, data, type);
        writer.Write("\n\n"u8);
    }

    private void Begin(IBufferWriter<byte> writer, int number, ReadOnlySpan<byte> name)
    {
        writer.Write(_id);
        var digits = writer.GetSpan(MaxDigits);
        Utf8Formatter.TryFormat(number, digits, out var written);
        writer.Advance(written);
        writer.Write("\nevent: "u8);
        writer.Write(name);
        writer.Write("\ndata: "u8);
    }
}

/// <summary>A turn has begun.</summary>
internal sealed record StreamStarted(string ThreadId, int Turn, bool SessionCreated);

/// <summary>The agent has said more.</summary>
internal readonly record struct StreamDelta(Utf8Text Text);
