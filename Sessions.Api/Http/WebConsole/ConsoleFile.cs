using System.Collections.Frozen;
using System.Security.Cryptography;
using Microsoft.Net.Http.Headers;

namespace Sessions.Api.Http.WebConsole;

/// <summary>A file of the console, as it is in the program itself: there is nothing beside it that could be missing or changed.</summary>
/// <param name="Bytes">The file.</param>
/// <param name="ContentType">What it is.</param>
/// <param name="ETag">Which one it is.</param>
internal sealed record ConsoleFile(ReadOnlyMemory<byte> Bytes, string ContentType, EntityTagHeaderValue ETag)
{
    private const string Prefix = "console/";

    /// <summary>All of them, by name.</summary>
    public static FrozenDictionary<string, ConsoleFile> ReadAll()
    {
        var assembly = typeof(ConsoleFile).Assembly;
        return assembly.GetManifestResourceNames()
            .Where(name => name.StartsWith(Prefix, StringComparison.Ordinal))
            .ToFrozenDictionary(name => name[Prefix.Length..], name =>
            {
                using var stream = assembly.GetManifestResourceStream(name)!;
                var bytes = new byte[stream.Length];
                stream.ReadExactly(bytes);
                return new ConsoleFile(
                    bytes, TypeOf(name), new($"\"{Convert.ToHexStringLower(SHA256.HashData(bytes).AsSpan(0, 8))}\""));
            });
    }

    private static string TypeOf(string name) => Path.GetExtension(name) switch
    {
        ".html" => "text/html; charset=utf-8",
        ".css" => "text/css; charset=utf-8",
        ".js" => "text/javascript; charset=utf-8",
        ".svg" => "image/svg+xml",
        var other => throw new InvalidOperationException($"The console has no files of the type {other}."),
    };
}
