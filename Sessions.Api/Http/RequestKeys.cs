using System.Security.Cryptography;
using System.Text;
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
    public static Idempotency? Read(IHeaderDictionary headers, string operation, string? userId, params ReadOnlySpan<string?> body)
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

    /// <summary>128 bits of SHA-256 over the parts, each preceded by its length, so that no two lists of parts look alike.</summary>
    public static Guid Hash(params ReadOnlySpan<string?> parts)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> length = stackalloc byte[4];
        foreach (var part in parts)
        {
            var bytes = part is null ? null : Encoding.UTF8.GetBytes(part);
            System.Buffers.Binary.BinaryPrimitives.WriteInt32LittleEndian(length, bytes?.Length ?? -1);
            hash.AppendData(length);
            hash.AppendData(bytes ?? []);
        }

        Span<byte> digest = stackalloc byte[32];
        hash.GetHashAndReset(digest);
        return new Guid(digest[..16]);
    }
}
