using System.Runtime.CompilerServices;

namespace Sessions.Api.Engine.Agents;

/// <summary>A body of which no more is read than allowed.</summary>
/// <param name="inner">The body.</param>
/// <param name="maxBytes">How many bytes it may have.</param>
/// <param name="exceeded">Told where there are more, if anybody wants to know.</param>
internal sealed class BoundedStream(Stream inner, int maxBytes, Action? exceeded = null) : Stream
{
    private int _left = maxBytes;

    /// <summary>Stops waiting for more, where the reader passes none of its own.</summary>
    public CancellationToken Token { get; set; }

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    // One read for each token of a streamed answer.
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var read = await inner.ReadAsync(buffer, cancellationToken.CanBeCanceled ? cancellationToken : Token);
        _left -= read;
        if (_left >= 0)
        {
            return read;
        }

        exceeded?.Invoke();
        throw new ProviderException(ProviderFault.TooLarge);
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override async ValueTask DisposeAsync()
    {
        await inner.DisposeAsync();
        await base.DisposeAsync();
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            inner.Dispose();
        }

        base.Dispose(disposing);
    }
}
