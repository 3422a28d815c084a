using System.Buffers;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Http.Features;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Engine.Streams;

namespace Sessions.Api.Http;

/// <summary>Writes the events of a turn as server-sent events, in one of the forms that clients know. One for each reader: it may
/// remember what came before.</summary>
internal interface ITurnEventFormatter
{
    /// <summary>Writes an event, or what becomes of it; nothing where this form does not tell it, or the reader has had it
    /// before.</summary>
    /// <param name="writer">Where to: whole server-sent events.</param>
    /// <param name="number">The event's place in the stream, from 0.</param>
    /// <param name="happened">The event.</param>
    void Write(IBufferWriter<byte> writer, int number, TurnEvent happened);

    /// <summary>The plain answer where the turn did not even begin.</summary>
    IResult Refuse(Error error);
}

/// <summary>A streamed turn as server-sent events, from one of its events on, to the end or until the client goes.</summary>
/// <remarks>
/// Framed by hand: the framework's own writer of server-sent events knows no comments, and these are the only heartbeats that all clients
/// take.
/// </remarks>
/// <param name="turn">The turn.</param>
/// <param name="from">The first event to send, from 0.</param>
/// <param name="formatter">The form.</param>
/// <param name="turns">Whom to tell when the client goes.</param>
internal sealed class TurnEventStream(StreamedTurn turn, int from, ITurnEventFormatter formatter, StreamedTurns turns) : IResult
{
    // What a thread keeps to write into.
    private const int MaxBuffered = 64 << 10;

    [ThreadStatic]
    private static ArrayBufferWriter<byte>? _buffer;

    public async Task ExecuteAsync(HttpContext httpContext)
    {
        var gone = httpContext.RequestAborted;
        var reader = new StreamedTurnReader(httpContext.RequestServices.GetRequiredService<TimeProvider>());
        var isFirst = turn.Enter(reader);
        using var leaves = gone.UnsafeRegister(static reader => ((StreamedTurnReader)reader!).Leave(), reader);
        try
        {
            // Nothing is sent before the turn has begun: until then a refusal is a plain answer with a status of its own.
            while (turn is { Begun: null, Ended: false })
            {
                await reader.WaitAsync();
            }

            if (turn.Refusal is { } refusal)
            {
                await formatter.Refuse(refusal).ExecuteAsync(httpContext);
                return;
            }

            var response = httpContext.Response;
            response.ContentType = "text/event-stream";
            response.Headers.CacheControl = "no-store";
            response.Headers["X-Accel-Buffering"] = "no";
            if (turn.Result is { Replayed: true } || (turn is { Ended: true, Result: not null } && !isFirst))
            {
                response.Headers[RequestKeys.ReplayedHeader] = "true";
            }

            httpContext.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
            var next = from;
            while (true)
            {
                next = Write(response.BodyWriter, next, out var ended);

                // Waits while the client does not read: what comes meanwhile is kept with the turn.
                await response.BodyWriter.FlushAsync(gone);
                if (ended)
                {
                    return;
                }

                while (!await reader.WaitAsync())
                {
                    response.BodyWriter.Write(": still there\n\n"u8);
                    await response.BodyWriter.FlushAsync(gone);
                }
            }
        }
        catch (OperationCanceledException) when (gone.IsCancellationRequested)
        {
            // The client has gone; what becomes of the turn is a setting.
        }
        finally
        {
            turns.Abandon(turn, reader);
        }
    }

    // What there is by now, in one piece: the web server takes a lock for each.
    private int Write(PipeWriter body, int next, out bool ended)
    {
        // Taken while it is used: what was written before something threw is not what the next stream begins with.
        var buffer = _buffer ?? new ArrayBufferWriter<byte>(1024);
        _buffer = null;
        while (turn.Read(next, out ended) is { } happened)
        {
            formatter.Write(buffer, next++, happened);
        }

        body.Write(buffer.WrittenSpan);
        if (buffer.Capacity <= MaxBuffered)
        {
            buffer.ResetWrittenCount();
            _buffer = buffer;
        }

        return next;
    }
}
