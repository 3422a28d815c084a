using System.Buffers;
using System.Globalization;
using System.Text;
using Microsoft.AspNetCore.Http.Features;

namespace Sessions.Api;

/// <summary>A streamed turn as server-sent events, from one of its events on, to the end or until the client goes.</summary>
/// <param name="turn">The turn.</param>
/// <param name="from">The first event to send, from 0.</param>
/// <param name="turns">Whom to tell when the client goes.</param>
internal sealed class EventStream(StreamedTurn turn, int from, StreamedTurns turns) : IResult
{
    private const string IdHeader = "Last-Event-ID";

    /// <summary>Whether a request wants its answer as a stream: it says so, or accepts a stream and does not name JSON.</summary>
    public static bool IsWanted(QueryRequest request, HttpRequest http) =>
        request.Stream ?? (Accepts(http, "text/event-stream") && !Accepts(http, "application/json"));

    /// <summary>The event that a client saw last, if it comes back to a stream.</summary>
    /// <exception cref="ProblemException">The header is none of ours.</exception>
    public static (Guid Stream, int Event)? Seen(IHeaderDictionary headers)
    {
        if (!headers.TryGetValue(IdHeader, out var values) || values is not [{ Length: > 0 } id])
        {
            return null;
        }

        var colon = id.IndexOf(':', StringComparison.Ordinal);
        return colon > 0 && Guid.TryParseExact(id.AsSpan(0, colon), "N", out var stream)
            && int.TryParse(id.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            ? (stream, number)
            : throw new ProblemException(Problem.InvalidField(IdHeader, "must be the id of an event of ours"));
    }

    public async Task ExecuteAsync(HttpContext httpContext)
    {
        var settings = httpContext.RequestServices.GetRequiredService<StreamingSettings>();
        var time = httpContext.RequestServices.GetRequiredService<TimeProvider>();
        var gone = httpContext.RequestAborted;
        turn.Enter();
        try
        {
            // Nothing is sent before the turn has begun: until then a refusal is a plain answer with a status of its own.
            var (events, ended, more) = turn.Read(from);
            while (events.Count == 0 && !ended)
            {
                await more.WaitAsync(gone);
                (events, ended, more) = turn.Read(from);
            }

            if (turn.Refusal is { } refusal)
            {
                await refusal.ExecuteAsync(httpContext);
                return;
            }

            var response = httpContext.Response;
            response.ContentType = "text/event-stream";
            response.Headers.CacheControl = "no-store";
            response.Headers["X-Accel-Buffering"] = "no";
            if (turn.Replayed)
            {
                response.Headers[IdempotencyKeys.ReplayedHeader] = "true";
            }

            httpContext.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
            var next = from;
            while (true)
            {
                foreach (var told in events)
                {
                    Write(response.BodyWriter, next++, told);
                }

                // Waits while the client does not read: what comes meanwhile is kept with the turn.
                await response.BodyWriter.FlushAsync(gone);
                if (ended)
                {
                    return;
                }

                await WaitAsync(more, response, TimeSpan.FromSeconds(settings.HeartbeatSeconds), time, gone);
                (events, ended, more) = turn.Read(next);
            }
        }
        catch (OperationCanceledException) when (gone.IsCancellationRequested)
        {
            // The client has gone; what becomes of the turn is a setting.
        }
        finally
        {
            turns.Abandon(turn);
        }
    }

    // Most clients accept */* or nothing in particular; only what is named counts.
    private static bool Accepts(HttpRequest http, string mediaType) =>
        http.Headers.Accept.Count > 0 && http.GetTypedHeaders().Accept.Any(accept => accept.MediaType.Equals(mediaType, StringComparison.OrdinalIgnoreCase));

    private static async Task WaitAsync(Task more, HttpResponse response, TimeSpan heartbeat, TimeProvider time, CancellationToken gone)
    {
        while (true)
        {
            try
            {
                await more.WaitAsync(heartbeat, time, gone);
                return;
            }
            catch (TimeoutException)
            {
                response.BodyWriter.Write(": still there\n\n"u8);
                await response.BodyWriter.FlushAsync(gone);
            }
        }
    }

    private void Write(IBufferWriter<byte> writer, int number, StreamEvent told)
    {
        Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"id: {turn.Id:N}:{number}\nevent: {told.Name}\ndata: "), writer);
        writer.Write(told.Data);
        writer.Write("\n\n"u8);
    }
}
