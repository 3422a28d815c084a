using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Sessions.Api.Domain;

namespace Sessions.Api.Http;

/// <summary>The <c>Idempotency-Key</c> header: the same key and request, the same answer.</summary>
internal static class RequestKeys
{
    /// <summary>The header that marks an answer as one given before.</summary>
    public const string ReplayedHeader = "Idempotency-Replayed";

    /// <summary>The header itself.</summary>
    public const string Header = "Idempotency-Key";

    /// <summary>Reads the key of a request, if it has one.</summary>
    /// <param name="headers">The request's headers.</param>
    /// <param name="operation">What is asked for: keys of different operations don't meet.</param>
    /// <param name="userId">On whose behalf: nor do those of different users.</param>
    /// <param name="body">All that the request asks for.</param>
    /// <exception cref="DomainException">The header is not allowed.</exception>
    public static Idempotency? Read(IHeaderDictionary headers, string operation, string? userId, params ReadOnlySpan<Part> body)
    {
        if (!headers.TryGetValue(Header, out var values))
        {
            return null;
        }

        var key = values.Count == 1 ? values[0]! : "";
        if (key.Length is 0 or > 255 || key.AsSpan().ContainsAnyExceptInRange(' ', '~'))
        {
            throw new DomainException(Error.InvalidField(Header, "must be 1 to 255 printable ASCII characters, sent once"));
        }

        return new Idempotency(Hash(operation, userId, key), Hash(body));
    }

    /// <summary>Marks an answer as one given before, where it is one.</summary>
    public static void MarkReplayed(HttpContext http, bool replayed)
    {
        if (replayed)
        {
            http.Response.Headers[ReplayedHeader] = "true";
        }
    }

    /// <summary>128 bits of SHA-256 over the parts, each preceded by its length, so that no two lists of parts look alike.</summary>
    public static Guid Hash(params ReadOnlySpan<Part> parts)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> length = stackalloc byte[4];
        foreach (var part in parts)
        {
            var bytes = part.Bytes;
            BinaryPrimitives.WriteInt32LittleEndian(length, part.IsAbsent ? -1 : bytes.Length);
            hash.AppendData(length);
            hash.AppendData(bytes);
        }

        Span<byte> digest = stackalloc byte[32];
        hash.GetHashAndReset(digest);
        return new Guid(digest[..16]);
    }

    /// <summary>A part of what a request asks for: a text, or JSON as it was sent. Read only where it is hashed.</summary>
    internal readonly struct Part
    {
        private readonly string? _text;
        private readonly JsonElement? _json;

        private Part(string? text, JsonElement? json) => (_text, _json) = (text, json);

        /// <summary>Whether the request does not have it.</summary>
        public bool IsAbsent => _text is null && _json is null;

        /// <summary>The part in UTF-8.</summary>
        public ReadOnlySpan<byte> Bytes =>
            _json is { } json ? JsonMarshal.GetRawUtf8Value(json) : _text is null ? default : Encoding.UTF8.GetBytes(_text);

        public static implicit operator Part(string? text) => new(text, null);

        public static implicit operator Part(JsonElement json) => new(null, json);

        public static implicit operator Part(JsonElement? json) => new(null, json);
    }
}
