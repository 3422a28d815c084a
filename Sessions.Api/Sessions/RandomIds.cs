using System.Buffers.Binary;
using System.Security.Cryptography;

namespace Sessions.Api;

/// <summary>
/// Ids that can't be guessed: of the system's own random bytes, as <see cref="Guid.NewGuid"/> takes them, but for many ids at a time. That asks the system for each.
/// </summary>
internal static class RandomIds
{
    private const int Ids = 32;
    private const int BytesPerId = 16;

    [ThreadStatic]
    private static byte[]? _random;

    [ThreadStatic]
    private static int _left;

    /// <summary>A UUID of version 4.</summary>
    public static Guid NewVersion4()
    {
        Span<byte> id = stackalloc byte[BytesPerId];
        Take(id);
        return Mark(id, version: 0x40);
    }

    /// <summary>A UUID of version 7, of that time: they sort by it.</summary>
    public static Guid NewVersion7(DateTimeOffset time)
    {
        Span<byte> id = stackalloc byte[BytesPerId];
        Take(id[6..]);
        var milliseconds = time.ToUnixTimeMilliseconds();
        BinaryPrimitives.WriteUInt16BigEndian(id, (ushort)(milliseconds >> 32));
        BinaryPrimitives.WriteUInt32BigEndian(id[2..], (uint)milliseconds);
        return Mark(id, version: 0x70);
    }

    private static Guid Mark(Span<byte> id, byte version)
    {
        id[6] = (byte)((id[6] & 0x0F) | version);
        id[8] = (byte)((id[8] & 0x3F) | 0x80);
        return new Guid(id, bigEndian: true);
    }

    private static void Take(Span<byte> bytes)
    {
        var random = _random ??= new byte[Ids * BytesPerId];
        if (_left < bytes.Length)
        {
            RandomNumberGenerator.Fill(random);
            _left = random.Length;
        }

        _left -= bytes.Length;
        var taken = random.AsSpan(_left, bytes.Length);
        taken.CopyTo(bytes);

        // What has been given away is not to be found in the memory of the process.
        taken.Clear();
    }
}
