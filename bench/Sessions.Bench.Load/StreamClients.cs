using System.Buffers.Text;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using HdrHistogram;

namespace Sessions.Bench.Load;

/// <summary>Clients that read streams of tokens, each on a connection of its own, and take the time of each token.</summary>
internal sealed class StreamClients(CancellationToken cancellationToken) : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly List<Socket> _sockets = [];
    private long _turns;
    private long _failures;
    private string? _failure;
    private volatile bool _stops;

    /// <summary>How long a token was on its way from the model, in <see cref="TimeSpan.Ticks"/>.</summary>
    public HistogramBase Ways { get; } = new LongConcurrentHistogram(1, TimeSpan.TicksPerMinute, 3);

    /// <summary>How long it took from the request to the first token.</summary>
    public HistogramBase Firsts { get; } = new LongConcurrentHistogram(1, TimeSpan.TicksPerMinute, 3);

    /// <summary>How many answers came whole.</summary>
    public long Turns => Volatile.Read(ref _turns);

    /// <summary>How many did not.</summary>
    public long Failures => Volatile.Read(ref _failures);

    /// <summary>What one of these was.</summary>
    public string? Failure => _failure;

    /// <summary>Connects so many, one after the other.</summary>
    public async Task ConnectAsync(IPEndPoint address, int count)
    {
        for (var i = 0; i < count; i++)
        {
            var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            _sockets.Add(socket);
            await socket.ConnectAsync(address, cancellationToken);
        }
    }

    /// <summary>Lets each ask again and again, for a time.</summary>
    public async Task RepeatAsync(byte[] request, int tokens, TimeSpan time)
    {
        _stops = false;
        var all = Task.WhenAll(_sockets.Select(socket => Task.Run(() => ReadAsync(socket, request, tokens, repeats: true))));
        await Task.Delay(time, cancellationToken);
        _stops = true;
        await all.WaitAsync(Patience, cancellationToken);
    }

    /// <summary>Lets each ask so many times.</summary>
    public Task AskAsync(byte[] request, int tokens, int times) => Task.WhenAll(_sockets.Select(socket => Task.Run(async () =>
    {
        for (var i = 0; i < times; i++)
        {
            await ReadAsync(socket, request, tokens, repeats: false);
        }
    })));

    /// <summary>Lets each ask once, all at the same time.</summary>
    public Task AskAllAsync(byte[] request, int tokens) =>
        Task.WhenAll(_sockets.Select(socket => Task.Run(() => ReadAsync(socket, request, tokens, repeats: false))));

    public void Dispose() => _sockets.ForEach(socket => socket.Dispose());

    private async Task ReadAsync(Socket socket, byte[] request, int tokens, bool repeats)
    {
        var buffer = new byte[8 << 10];
        do
        {
            try
            {
                var sent = Stopwatch.GetTimestamp();
                await socket.SendAsync(request, cancellationToken);
                var came = await ReadAnswerAsync(socket, buffer, tokens, sent);
                if (came != tokens)
                {
                    Fail($"{came} of {tokens} tokens came, and in the end: {System.Text.Encoding.UTF8.GetString(buffer).TrimEnd('\0')}");
                    return;
                }

                Interlocked.Increment(ref _turns);
            }
            catch (SocketException e)
            {
                Fail(e.Message);
                return;
            }
        }
        while (repeats && !_stops);
    }

    private async Task<int> ReadAnswerAsync(Socket socket, byte[] buffer, int tokens, long sent)
    {
        var (length, came) = (0, 0);
        while (true)
        {
            var received = await socket.ReceiveAsync(buffer.AsMemory(length), cancellationToken);
            if (received == 0 || (buffer.AsSpan().StartsWith("HTTP/1.1 "u8) && buffer[9] != '2'))
            {
                return came;
            }

            length += received;
            var answer = buffer.AsMemory(0, length);
            came += Read(answer.Span, tokens - came, came == 0 ? sent : 0, out var read);
            if (answer.Span.EndsWith("0\r\n\r\n"u8))
            {
                return came;
            }

            // What may be the beginning of a token, or of the end.
            var kept = Math.Min(length - read, MockModel.Digits + 16);
            answer[(length - kept)..].CopyTo(buffer);
            length = kept;
        }
    }

    // No more than are to come: an answer may say everything again in the end.
    private int Read(ReadOnlySpan<byte> answer, int tokens, long sent, out int read)
    {
        var came = 0;
        read = 0;
        while (came < tokens && answer[read..].IndexOf(MockModel.Mark) is >= 0 and var at && answer.Length - read - at > MockModel.Digits)
        {
            if (Utf8Parser.TryParse(answer.Slice(read + at + 1, MockModel.Digits), out long time, out _))
            {
                var now = Stopwatch.GetTimestamp();
                Ways.RecordValue(Math.Max(1, Stopwatch.GetElapsedTime(time, now).Ticks));
                if (came++ == 0 && sent != 0)
                {
                    Firsts.RecordValue(Stopwatch.GetElapsedTime(sent, now).Ticks);
                }
            }

            read += at + 1 + MockModel.Digits;
        }

        return came;
    }

    private void Fail(string failure)
    {
        _failure = failure;
        Interlocked.Increment(ref _failures);
    }
}
