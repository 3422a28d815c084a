using System.Buffers.Text;
using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Sessions.Bench.Load;

/// <summary>
/// A model's endpoint as cheap as can be: chat completions, streamed. What is asked says how many tokens to answer with and how far apart
/// (see <see cref="Ask"/>). Each token is the time at which it was sent, so that whoever reads it knows how long it was on its way.
/// </summary>
internal sealed class MockModel
{
    /// <summary>What stands before a token's time: 19 digits of <see cref="Stopwatch.GetTimestamp"/>, which all processes of a machine
    /// share.</summary>
    public const byte Mark = (byte)'@';

    /// <summary>How many digits a time has.</summary>
    public const int Digits = 19;

    private static readonly byte[] Head = [.. "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"u8];
    private static readonly byte[] First = Chunk("""{"role":"assistant","content":""}""", "null");
    private static readonly byte[] Token = Chunk($$"""{"content":"{{(char)Mark}}{{new string('0', Digits)}} "}""", "null");
    private static readonly byte[] End =
        [.. Chunk("{}", "\"stop\""), .. Encoding.ASCII.GetBytes("E\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")];

    private readonly ConcurrentQueue<Answer> _begun = new();
    private readonly PriorityQueue<Answer, long> _due = new();

    /// <summary>The words that ask for an answer.</summary>
    /// <param name="tokens">How many tokens it is to have.</param>
    /// <param name="interval">How far apart; zero: all at once.</param>
    public static string Ask(int tokens, TimeSpan interval) =>
        $"Say tokens={tokens:D6} every={(long)interval.TotalMicroseconds:D9} microseconds.";

    /// <summary>Serves until the process is ended.</summary>
    public static async Task ServeAsync()
    {
        var model = new MockModel();
        new Thread(model.SendWhatIsDue) { IsBackground = true }.Start();
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen(4096);
        Console.WriteLine($"Now listening on: http://{listener.LocalEndPoint}");
        while (true)
        {
            var socket = await listener.AcceptAsync();
            socket.NoDelay = true;
            _ = model.AnswerAsync(socket);
        }
    }

    private async Task AnswerAsync(Socket socket)
    {
        using (socket)
        {
            var buffer = new byte[16 << 10];
            var length = 0;
            try
            {
                while (await socket.ReceiveAsync(buffer.AsMemory(length)) is > 0 and var received)
                {
                    length += received;
                    if (IsWhole(buffer.AsSpan(0, length)))
                    {
                        Begin(socket, buffer.AsSpan(0, length));
                        length = 0;
                    }
                }
            }
            catch (SocketException)
            {
                // The client has gone.
            }
        }
    }

    private void Begin(Socket socket, ReadOnlySpan<byte> request)
    {
        var tokens = Number(request, "tokens="u8);
        var interval = Number(request, "every="u8) * Stopwatch.Frequency / 1_000_000;
        if (interval == 0)
        {
            Span<byte> answer = stackalloc byte[Head.Length + First.Length + (tokens * Token.Length) + End.Length];
            var rest = Put(Put(answer, Head), First);
            for (var i = 0; i < tokens; i++)
            {
                PutToken(rest);
                rest = rest[Token.Length..];
            }

            Put(rest, End);
            socket.Send(answer);
            return;
        }

        _begun.Enqueue(new Answer(socket, tokens, interval));
    }

    // One thread for all: what it sends is small, and there is room for it.
    private void SendWhatIsDue()
    {
        var token = (byte[])[.. Token];
        var phases = new Random(1);
        while (true)
        {
            while (_begun.TryDequeue(out var begun))
            {
                Send(begun.Socket, [.. Head, .. First]);
                _due.Enqueue(begun, Stopwatch.GetTimestamp());
            }

            while (_due.TryPeek(out var answer, out var at) && at <= Stopwatch.GetTimestamp())
            {
                PutToken(token);
                var goesOn = Send(answer.Socket, token);
                if (--answer.Left > 0 && goesOn)
                {
                    // Streams that all begin at once would go on in step: how many tokens then come in the same millisecond depends on how
                    // fast the server passed the requests on, and the faster one would have the worse of it.
                    _due.DequeueEnqueue(answer, at + (answer.HasBegun ? answer.Interval : phases.NextInt64(answer.Interval)));
                    answer.HasBegun = true;
                    continue;
                }

                _due.Dequeue();
                Send(answer.Socket, End);
            }

            Thread.Sleep(1);
        }
    }

    private static bool Send(Socket socket, ReadOnlySpan<byte> bytes)
    {
        try
        {
            return socket.Send(bytes) == bytes.Length;
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            return false;
        }
    }

    private static bool IsWhole(ReadOnlySpan<byte> request)
    {
        var body = request.IndexOf("\r\n\r\n"u8) + 4;
        if (body < 4)
        {
            return false;
        }

        var announced = request[..body].IndexOf("Content-Length: "u8);
        return announced < 0 ? request.EndsWith("0\r\n\r\n"u8)
            : Utf8Parser.TryParse(request[(announced + 16)..], out int length, out _) && request.Length - body >= length;
    }

    private static int Number(ReadOnlySpan<byte> request, ReadOnlySpan<byte> name)
    {
        var at = request.LastIndexOf(name);
        return at >= 0 && Utf8Parser.TryParse(request[(at + name.Length)..], out int number, out _) ? number
            : throw new InvalidOperationException($"This asks for nothing: {Encoding.UTF8.GetString(request)}");
    }

    private static Span<byte> Put(Span<byte> answer, ReadOnlySpan<byte> part)
    {
        part.CopyTo(answer);
        return answer[part.Length..];
    }

    private static void PutToken(Span<byte> answer)
    {
        Token.CopyTo(answer);
        Utf8Formatter.TryFormat(Stopwatch.GetTimestamp(), answer[(answer.IndexOf(Mark) + 1)..], out _, new('D', Digits));
    }

    private static byte[] Chunk(string delta, string finishReason)
    {
        var choice = $$"""{"index":0,"delta":{{delta}},"logprobs":null,"finish_reason":{{finishReason}}}""";
        var data = """data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1764000000,"model":"mock","choices":["""
            + choice + "]}";
        return Encoding.ASCII.GetBytes($"{data.Length + 2:X}\r\n{data}\n\n\r\n");
    }

    private sealed class Answer(Socket socket, int tokens, long interval)
    {
        public Socket Socket { get; } = socket;

        public int Left { get; set; } = tokens;

        public long Interval { get; } = interval;

        /// <summary>Whether its first token is out: the second follows after a part of the interval.</summary>
        public bool HasBegun { get; set; }
    }
}
