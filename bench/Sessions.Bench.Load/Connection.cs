using System.Buffers.Text;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Sessions.Bench.Load;

/// <summary>
/// One client: sends a request that was made beforehand, and reads the answer just far enough to know its status and where it ends.
/// Nothing is allocated for
/// either, so that the machine is left to the server.
/// </summary>
internal sealed class Connection : IDisposable
{
    private readonly byte[][] _requests;
    private readonly int _serialAt;
    private readonly int _step;
    private byte[] _answer = new byte[16 << 10];
    private int _length;
    private int _next;

    /// <param name="address">Where to connect to.</param>
    /// <param name="requests">What to send, over and over again.</param>
    /// <param name="serial">Where requests have a <see cref="Requests.Serial"/>, the first one's number.</param>
    /// <param name="step">And how far it is to the next one's.</param>
    public Connection(IPEndPoint address, byte[][] requests, int serial = 0, int step = 1)
    {
        (_requests, Serial, _step) = (requests, serial, step);
        _serialAt = requests[0].AsSpan().IndexOf(Requests.Serial);
        Socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        Socket.Connect(address);
    }

    public Socket Socket { get; }

    /// <summary>How many requests are still to be answered.</summary>
    public int Left { get; set; } = int.MaxValue;

    /// <summary>When the request that is under way was sent.</summary>
    public long SentAt { get; set; }

    /// <summary>The number of the next request, where requests have one.</summary>
    public int Serial { get; private set; }

    /// <summary>Whether the answer has a status that says success.</summary>
    public bool IsSuccess => _answer[9] == '2';

    /// <summary>How many bytes of content the answer has.</summary>
    public int ContentLength { get; private set; }

    /// <summary>The answer as it came.</summary>
    public string Answer => Encoding.UTF8.GetString(_answer, 0, _length);

    /// <summary>Sends one request, and reads its answer whole.</summary>
    public static Connection Ask(IPEndPoint address, byte[] request)
    {
        var connection = new Connection(address, [request]);
        connection.Send();
        while (!connection.Receive())
        {
        }

        return connection.IsSuccess
            ? connection
            : throw new InvalidOperationException($"{Encoding.UTF8.GetString(request)}\nis answered with\n{connection.Answer}");
    }

    public void Send()
    {
        var request = _requests[_next];
        _next = _next + 1 == _requests.Length ? 0 : _next + 1;
        if (_serialAt >= 0)
        {
            // In place: what all rounds send would not fit into memory.
            Utf8Formatter.TryFormat(Serial, request.AsSpan(_serialAt), out _, new('D', (byte)Requests.Serial.Length));
            Serial += _step;
        }

        _length = 0;
        for (ReadOnlySpan<byte> rest = request; !rest.IsEmpty;)
        {
            rest = rest[Socket.Send(rest)..];
        }
    }

    /// <summary>Reads what there is.</summary>
    /// <returns>Whether the answer is whole by now.</returns>
    public bool Receive()
    {
        if (_length == _answer.Length)
        {
            Array.Resize(ref _answer, 2 * _length);
        }

        var count = Socket.Receive(_answer.AsSpan(_length));
        if (count == 0)
        {
            throw new IOException($"The server closed a connection in the middle of: {Answer}");
        }

        _length += count;
        var answer = _answer.AsSpan(0, _length);
        var body = answer.IndexOf("\r\n\r\n"u8) + 4;
        if (body < 4)
        {
            return false;
        }

        var announced = answer[..body].IndexOf("\r\nContent-Length: "u8);
        if (announced < 0)
        {
            return IsWholeInChunks(answer[body..]);
        }

        ContentLength = Utf8Parser.TryParse(answer[(announced + 18)..], out int length, out _)
            ? length
            : throw new IOException($"This is no length: {Answer}");
        return _length - body >= length;
    }

    public void Dispose() => Socket.Dispose();

    // Each: its size, a line's end, that many bytes, a line's end. The last one is empty.
    private bool IsWholeInChunks(ReadOnlySpan<byte> rest)
    {
        ContentLength = 0;
        while (Utf8Parser.TryParse(rest, out int size, out var digits, 'X') && rest.Length >= digits + size + 4)
        {
            if (size == 0)
            {
                return true;
            }

            ContentLength += size;
            rest = rest[(digits + size + 4)..];
        }

        return false;
    }
}
