using System.Text;

namespace Sessions.Tests.Fuzz;

/// <summary>What a client sends, byte for byte.</summary>
/// <param name="Bytes">All of it.</param>
/// <param name="Methods">The requests in it, by their methods: each is to be answered.</param>
/// <param name="Odd">What is odd about it as HTTP, if anything: the server beneath may refuse that with a bare status, before any of ours
/// is asked.</param>
/// <param name="Broken">Whether it is no well-formed HTTP: where one request ends is for the server to say, and it may just hang
/// up.</param>
/// <param name="Streams">Whether the answer is a stream that can be picked up again by whoever knows its id.</param>
internal sealed record FuzzRequest(
    byte[] Bytes, IReadOnlyList<string> Methods, string? Odd = null, bool Broken = false, bool Streams = false)
{
    // Kestrel's own limits: see KestrelServerLimits.
    private const int MostHeaders = 100;
    private const int LongestLine = 8 << 10;
    private const int LargestHead = 32 << 10;

    /// <summary>One request, well formed as HTTP/1.1 as far as its parts are.</summary>
    public static FuzzRequest From(
        string method, string target, IEnumerable<(string Name, string Value)> headers, byte[]? body, bool chunked = false)
    {
        var lines = headers.ToList();
        if (chunked)
        {
            lines.Add(("Transfer-Encoding", "chunked"));
        }
        else if (body is not null)
        {
            lines.Add(("Content-Length", $"{body.Length}"));
        }

        var head = new StringBuilder($"{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        foreach (var (name, value) in lines)
        {
            head.Append(name).Append(": ").Append(value).Append("\r\n");
        }

        head.Append("\r\n");
        var content = body is null ? [] : chunked ? Chunked(body) : body;
        return new([.. Encoding.UTF8.GetBytes(head.ToString()), .. content], [method], Oddness(target, lines, head.Length));
    }

    /// <summary>Several requests at once, on one connection.</summary>
    public static FuzzRequest Pipelined(IEnumerable<FuzzRequest> requests)
    {
        var all = requests.ToList();
        return new([.. all.SelectMany(request => request.Bytes)], [.. all.SelectMany(request => request.Methods)]);
    }

    /// <summary>As much as a reader needs to see what it was.</summary>
    public override string ToString()
    {
        const int Most = 1500;
        var text = Encoding.Latin1.GetString(Bytes, 0, Math.Min(Bytes.Length, Most));
        var shown = string.Concat(text.Select(c => c is '\r' ? "" : c is '\n' or (>= ' ' and <= '~') ? $"{c}" : $"\\x{(int)c:x2}"));
        return Bytes.Length > Most ? $"{shown}… ({Bytes.Length} bytes)" : shown;
    }

    private static byte[] Chunked(byte[] body)
    {
        using var chunks = new MemoryStream();
        foreach (var piece in body.Chunk(Math.Max(7, body.Length / 5)))
        {
            chunks.Write(Encoding.ASCII.GetBytes($"{piece.Length:x}\r\n"));
            chunks.Write(piece);
            chunks.Write("\r\n"u8);
        }

        chunks.Write("0\r\n\r\n"u8);
        return chunks.ToArray();
    }

    private static string? Oddness(string target, List<(string Name, string Value)> headers, int length) =>
        target.Contains("%00", StringComparison.Ordinal) ? "a NUL in the path"
            : target.Any(c => c is <= ' ' or > '~') ? "a path that is no ASCII"
            : !target.StartsWith('/') ? "a target that is no path"
            : headers.Exists(header => header.Value.Any(c => c is < ' ' and not '\t' or > '~')) ? "a header that is no ASCII"
            : headers.Count >= MostHeaders || length > LargestHead ? "too many headers"
            : target.Length > LongestLine - 50 ? "too long a target"
            : null;
}
