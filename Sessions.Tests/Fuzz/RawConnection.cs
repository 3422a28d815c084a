using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Sessions.Tests.Fuzz;

/// <summary>A client that sends whatever bytes it is given, which no client library does.</summary>
internal sealed class RawConnection : IDisposable
{
    private readonly Socket _socket = new(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
    private readonly byte[] _buffer = new byte[64 << 10];
    private int _from;
    private int _to;

    /// <summary>Whether the server has said that it is going to hang up.</summary>
    public bool Closed { get; private set; }

    public static async Task<RawConnection> OpenAsync(int port, CancellationToken cancellationToken)
    {
        var connection = new RawConnection();
        await connection._socket.ConnectAsync(IPAddress.Loopback, port, cancellationToken);
        return connection;
    }

    /// <summary>Sends the request, and reads the answers.</summary>
    public async Task<List<RawAnswer>> SendAsync(FuzzRequest request, CancellationToken cancellationToken)
    {
        var sending = WriteAsync(request, cancellationToken);
        List<RawAnswer> answers = [];
        for (var i = 0; (i < request.Methods.Count || request.Broken) && !Closed; i++)
        {
            if (await ReadAnswerAsync(i < request.Methods.Count ? request.Methods[i] : "", cancellationToken) is not { } answer)
            {
                Closed = true;
                break;
            }

            answers.Add(answer);
        }

        // A server may answer before it was told everything, and hang up: what counts is the answer.
        Closed |= !await sending;
        return answers;
    }

    public void Dispose() => _socket.Dispose();

    private async Task<bool> WriteAsync(FuzzRequest request, CancellationToken cancellationToken)
    {
        try
        {
            for (var sent = 0; sent < request.Bytes.Length;)
            {
                sent += await _socket.SendAsync(request.Bytes.AsMemory(sent), cancellationToken);
            }

            if (request.Broken)
            {
                _socket.Shutdown(SocketShutdown.Send);
            }

            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    // Null: the server has hung up instead.
    private async Task<RawAnswer?> ReadAnswerAsync(string method, CancellationToken cancellationToken)
    {
        while (true)
        {
            if (await ReadLineAsync(cancellationToken) is not { } start)
            {
                return null;
            }

            var parts = start.Split(' ', 3);
            if (parts is not ["HTTP/1.1" or "HTTP/1.0", ..]
                || !int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out var status))
            {
                throw new InvalidDataException($"No status line: {start}");
            }

            var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
            while (await ReadLineAsync(cancellationToken) is { Length: > 0 } line)
            {
                var colon = line.IndexOf(':', StringComparison.Ordinal);
                headers[line[..colon]] = line[(colon + 1)..].Trim();
            }

            if (status is >= 100 and < 200)
            {
                continue;
            }

            Closed |= headers.TryGetValue("Connection", out var said) && said.Equals("close", StringComparison.OrdinalIgnoreCase);
            return new RawAnswer(status, headers,
                method == "HEAD" || status is 204 or 304 ? [] : await ReadBodyAsync(headers, cancellationToken));
        }
    }

    private async Task<byte[]> ReadBodyAsync(Dictionary<string, string> headers, CancellationToken cancellationToken)
    {
        using var body = new MemoryStream();
        if (headers.TryGetValue("Content-Length", out var length))
        {
            await ReadAsync(body, long.Parse(length, CultureInfo.InvariantCulture), cancellationToken);
        }
        else if (headers.ContainsKey("Transfer-Encoding"))
        {
            while (true)
            {
                var size = await ReadLineAsync(cancellationToken) ?? throw new EndOfStreamException("The answer breaks off.");
                var bytes = long.Parse(size, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
                await ReadAsync(body, bytes, cancellationToken);
                await ReadLineAsync(cancellationToken);
                if (bytes == 0)
                {
                    break;
                }
            }
        }
        else
        {
            // As HTTP/1.0 does: up to the end.
            while (await FillAsync(cancellationToken))
            {
                body.Write(_buffer, _from, _to - _from);
                _from = _to;
            }

            Closed = true;
        }

        return body.ToArray();
    }

    private async Task ReadAsync(MemoryStream body, long bytes, CancellationToken cancellationToken)
    {
        while (bytes > 0)
        {
            if (!await FillAsync(cancellationToken))
            {
                throw new EndOfStreamException("The answer breaks off.");
            }

            var some = (int)Math.Min(bytes, _to - _from);
            body.Write(_buffer, _from, some);
            _from += some;
            bytes -= some;
        }
    }

    private async Task<string?> ReadLineAsync(CancellationToken cancellationToken)
    {
        var line = new StringBuilder();
        while (await FillAsync(cancellationToken))
        {
            var end = Array.IndexOf(_buffer, (byte)'\n', _from, _to - _from);
            line.Append(Encoding.Latin1.GetString(_buffer, _from, (end < 0 ? _to : end) - _from));
            _from = end < 0 ? _to : end + 1;
            if (end >= 0)
            {
                return line.ToString().TrimEnd('\r');
            }
        }

        return null;
    }

    private async ValueTask<bool> FillAsync(CancellationToken cancellationToken)
    {
        if (_from < _to)
        {
            return true;
        }

        try
        {
            (_from, _to) = (0, await _socket.ReceiveAsync(_buffer, cancellationToken));
        }
        catch (SocketException)
        {
            // A reset: whoever expects an answer is told that there is none.
            (_from, _to) = (0, 0);
        }

        return _to > 0;
    }
}

/// <summary>What came back.</summary>
internal sealed record RawAnswer(int Status, IReadOnlyDictionary<string, string> Headers, byte[] Body)
{
    public string Text => Encoding.UTF8.GetString(Body);

    public string MediaType => Headers.GetValueOrDefault("Content-Type", "").Split(';')[0];
}
